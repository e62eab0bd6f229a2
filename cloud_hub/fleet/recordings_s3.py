# SPDX-License-Identifier: Apache-2.0
"""Recordings in an S3-compatible storage: what a folder does for one machine, for any number.

Pieces of an upload may be smaller than S3's smallest part (5 MiB), so each is an object of its own,
`KEY.part/OFFSET`, until the last one has come: then they are read once, hashed, and sent on as one object,
which exists only if the hash is right. An upload that was begun anew may leave pieces of the first try;
only the chain from offset 0 counts, and each piece of it has been replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloud_hub.fleet.recordings import BLOCK

PART = 16 << 20
"""Bytes of one part of a finished object, held in memory: 4 GiB are 256 parts of at most 10,000."""
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class StorageError(OSError):
    """The storage did not do what was asked."""


class S3Recordings:
    """Objects in a bucket.

    Args:
        bucket: which must be there.
        endpoint: `https://host:port`; "" is AWS.
        region: that requests are signed for.
        access_key, secret_key: "" leaves them to the library: environment, files, the machine's role.
        prefix: before every key, `recordings/`.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str = "",
        region: str = "us-east-1",
        access_key: str = "",
        secret_key: str = "",
        prefix: str = "",
    ) -> None:
        self._bucket, self._prefix = bucket, prefix
        # Checksums of the newer kind only where S3 asks for them: not every compatible server has them.
        # Paths instead of names of hosts, where the endpoint is given: nobody has to set up DNS.
        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 4},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=region,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            config=config,
        )

    def write(self, key: str, offset: int, data: bytes) -> None:
        """Put a piece; S3 answers when it is kept."""
        with _told():
            self._put(f"{self._part(key)}{offset:020d}", data)

    def finish(self, key: str, length: int, sha256: bytes) -> bool:
        """Send the pieces on as one object, if they are whole and right."""
        with _told():
            chain = self._chain(key, length)
            if chain is None:
                return False
            blocks = _regrouped(self._read_all(chain))
            if length > PART:
                return self._finish_in_parts(key, blocks, sha256)
            whole = b"".join(blocks)
            if hashlib.sha256(whole).digest() != sha256:
                return False
            self._put(self._prefix + key, whole)
            return True

    def forget(self, key: str) -> None:
        """Remove the pieces."""
        with _told():
            pieces = [{"Key": name} for name, _ in self._pieces(key)]
            for first in range(0, len(pieces), 1000):
                self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": pieces[first : first + 1000], "Quiet": True},
                )

    def copy(self, key: str, other: str) -> None:
        """Copy an object within the bucket."""
        source = {"Bucket": self._bucket, "Key": self._prefix + key}
        with _told():
            self._client.copy_object(
                Bucket=self._bucket, Key=self._prefix + other, CopySource=source
            )

    def remove(self, key: str) -> None:
        """Remove the object and its pieces."""
        self.forget(key)
        with _told():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def size(self, key: str) -> int | None:
        """Return the object's length."""
        with _told():
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _MISSING:
                    return None
                raise
        return int(found["ContentLength"])

    def read(self, key: str, first: int, last: int) -> Iterator[bytes]:
        """Return a stretch of the object."""
        with _told():
            found = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + key, Range=f"bytes={first}-{last}"
            )
            yield from found["Body"].iter_chunks(BLOCK)

    def _finish_in_parts(self, key: str, blocks: Iterator[bytes], sha256: bytes) -> bool:
        where = {"Bucket": self._bucket, "Key": self._prefix + key}
        upload = {**where, "UploadId": self._client.create_multipart_upload(**where)["UploadId"]}
        digest, parts = hashlib.sha256(), []
        try:
            for number, block in enumerate(blocks, 1):
                digest.update(block)
                sent = self._client.upload_part(**upload, PartNumber=number, Body=block)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            if right := digest.digest() == sha256:
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._client.abort_multipart_upload(**upload)
            raise
        if not right:
            self._client.abort_multipart_upload(**upload)
        return right

    def _chain(self, key: str, length: int) -> list[str] | None:
        """Return the names of the pieces from 0 to `length`, None when one is missing."""
        sizes = {int(name.rpartition("/")[2]): (name, size) for name, size in self._pieces(key)}
        chain, offset = [], 0
        while offset < length:
            if offset not in sizes or sizes[offset][1] == 0:
                return None
            name, size = sizes[offset]
            chain.append(name)
            offset += size
        return chain if offset == length else None

    def _pieces(self, key: str) -> Iterator[tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._part(key)):
            for each in page.get("Contents", []):
                yield each["Key"], each["Size"]

    def _read_all(self, names: list[str]) -> Iterator[bytes]:
        for name in names:
            yield self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()

    def _put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=name, Body=data)

    def _part(self, key: str) -> str:
        return f"{self._prefix}{key}.part/"


def _regrouped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the same bytes in blocks of `PART`, the last one shorter."""
    waiting = bytearray()
    for block in blocks:
        waiting += block
        while len(waiting) >= PART:
            yield bytes(waiting[:PART])
            del waiting[:PART]
    if waiting:
        yield bytes(waiting)


@contextmanager
def _told() -> Iterator[None]:
    """Raise what the library raises as an OSError, with nothing secret in it."""
    try:
        yield
    except ClientError as error:
        found = error.response.get("Error", {})
        raise StorageError(f"{error.operation_name}: {found.get('Code', 'failed')}") from error
    except BotoCoreError as error:
        raise StorageError(str(error)) from error
