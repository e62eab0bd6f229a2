# SPDX-License-Identifier: Apache-2.0
"""Where recordings lie: the same behaviour of a folder and of an S3-compatible server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_hub.fleet import recordings_s3
from cloud_hub.fleet.recordings import RecordingFiles, RecordingStore
from cloud_hub.fleet.recordings_s3 import StorageError
from cloud_hub.fleet.storage import StorageSettings
from tests.hub.s3 import BUCKET, s3_running

KEY = "0190/one"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture(scope="module")
def s3() -> Iterator[StorageSettings]:
    """An S3-compatible server."""
    with s3_running() as settings:
        yield settings


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RecordingStore:
    """Either kind, empty as far as the test's own prefix goes."""
    if request.param == "folder":
        return RecordingFiles(tmp_path)
    settings: StorageSettings = request.getfixturevalue("s3")
    settings = settings.model_copy(update={"prefix": f"{tmp_path.name}/"})
    return settings.open(tmp_path)


def whole(store: RecordingStore, key: str) -> bytes:
    size = store.size(key)
    assert size is not None
    return b"".join(store.read(key, 0, size - 1))


def send(store: RecordingStore, key: str, data: bytes, piece: int = 1000) -> None:
    for offset in range(0, len(data), piece):
        store.write(key, offset, data[offset : offset + piece])


def test_pieces_become_an_object_when_they_are_whole_and_right(store: RecordingStore) -> None:
    data = os.urandom(4321)
    send(store, KEY, data[:4000])
    assert not store.finish(KEY, len(data), sha256(data))
    assert store.size(KEY) is None
    store.write(KEY, 4000, data[4000:])
    assert not store.finish(KEY, len(data), sha256(b"something else"))
    assert store.size(KEY) is None
    assert store.finish(KEY, len(data), sha256(data))
    assert store.finish(KEY, len(data), sha256(data)), "a process that died in between tries again"
    store.forget(KEY)
    assert whole(store, KEY) == data
    assert b"".join(store.read(KEY, 10, 19)) == data[10:20]
    assert not store.finish(KEY, len(data), sha256(data)), "no pieces are left"


def test_an_upload_that_begins_anew_is_not_spoiled_by_the_first_try(store: RecordingStore) -> None:
    send(store, KEY, os.urandom(5000), piece=700)
    data = os.urandom(5000)
    send(store, KEY, data, piece=1100)
    assert store.finish(KEY, len(data), sha256(data))
    assert whole(store, KEY) == data


def test_a_copy_outlives_what_it_was_copied_from(store: RecordingStore) -> None:
    store.write(KEY, 0, b"silence")
    assert store.finish(KEY, 7, sha256(b"silence"))
    store.copy(KEY, "0190/two")
    store.remove(KEY)
    store.remove(KEY)
    assert store.size(KEY) is None
    assert whole(store, "0190/two") == b"silence"
    with pytest.raises(OSError):  # noqa: PT011 - which one is the storage's own
        store.copy(KEY, "0190/three")


def test_a_long_recording_goes_to_s3_in_parts(
    s3: StorageSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings_s3, "PART", 5 << 20)
    store = s3.model_copy(update={"prefix": "long/"}).open(tmp_path)
    data = os.urandom(1 << 20) * 11 + b"the end"
    send(store, KEY, data, piece=4 << 20)
    assert not store.finish(KEY, len(data), sha256(b"another"))
    assert store.size(KEY) is None
    assert store.finish(KEY, len(data), sha256(data))
    assert whole(store, KEY) == data


def test_what_the_storage_refuses_is_an_os_error_without_secrets(
    s3: StorageSettings, tmp_path: Path
) -> None:
    store = s3.model_copy(update={"bucket": "nowhere"}).open(tmp_path)
    with pytest.raises(StorageError) as caught:
        store.write(KEY, 0, b"x")
    assert str(caught.value) == "PutObject: NoSuchBucket"
    assert isinstance(caught.value, OSError)


def test_another_process_gets_the_same_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = StorageSettings(
        bucket=BUCKET,
        endpoint="http://127.0.0.1:1",
        secret_key="secret",
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert StorageSettings() == settings
