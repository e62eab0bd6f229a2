# SPDX-License-Identifier: Apache-2.0
"""An S3-compatible server on loopback, with a bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import boto3
from moto.server import ThreadedMotoServer

from cloud_hub.fleet.storage import StorageSettings

BUCKET = "calls"


@contextlib.contextmanager
def s3_running() -> Iterator[StorageSettings]:
    """Settings under which the hub keeps recordings there."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = StorageSettings(
        bucket=BUCKET, endpoint=f"http://{host}:{port}", access_key="hub", secret_key="secret"
    )
    client = boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key.get_secret_value(),
    )
    client.create_bucket(Bucket=BUCKET)
    try:
        yield settings
    finally:
        server.stop()
