"""A real S3 server on the loopback interface, for tests of roots in an object store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def serve_s3() -> Iterator[dict[str, str]]:
    """Run a server and yield its storage options; the body of a session fixture. Skips where none is installed."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed: no S3 to test against")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "endpoint": f"http://{host}:{port}",
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
    }
    server.stop()


def make_bucket(options: dict[str, str], name: str) -> None:
    """An empty bucket on that server."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: nothing to make a bucket with")
    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        region_name=options["region"],
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
    )
    client.create_bucket(Bucket=name)
    client.close()
