"""Multipart uploads that nobody completes: found, and aborted once they are old."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from tests.aws_signature import request_signature
from worker.cloud.multipart import MultipartUploads
from worker.storage import Storage, StorageError

DAY = timedelta(days=1)
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}
WRITE = """
import io, time
from worker.storage import Storage

class Stalled(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 20_000_000:
            time.sleep(600)
        return super().read(size)

source = Stalled(bytes(30_000_000))
Storage.open("s3://vitrine/multipart").put("datasets/ds_x/images.zip", source)
"""


def test_an_upload_whose_process_was_killed_is_aborted(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3_environment["AWS_ENDPOINT"])

    def unfinished() -> list[str]:
        listed = client.list_multipart_uploads(Bucket="vitrine", Prefix="multipart/")
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    process = subprocess.Popen([sys.executable, "-c", WRITE])
    deadline = time.monotonic() + 30
    while not unfinished():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert unfinished() == ["multipart/datasets/ds_x/images.zip"]
    storage = Storage.open("s3://vitrine/multipart")
    # moto says of every upload that it was begun in 2010.
    assert Storage.open("s3://vitrine/other").sweep_unfinished(DAY) == 0
    assert storage.sweep_unfinished(timedelta(days=365 * 100)) == 0
    assert storage.sweep_unfinished(DAY) == 1
    assert unfinished() == []
    client.close()


class Bucket(ThreadingHTTPServer):
    """A store with two pages of uploads, of which it records the aborted ones."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.status = 200
        self.begun = {"a": timedelta(hours=23), "b": timedelta(hours=25), "c": timedelta(days=9)}
        self.aborted: list[str] = []
        self.signed: list[tuple[str, str, str, str]] = []


class Answering(BaseHTTPRequestHandler):
    server: Bucket

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        assert "uploads" in query
        after = query.get("upload-id-marker", [""])[0]
        listed = "".join(
            f"<Upload><Key>{query['prefix'][0]}{name}@1</Key><UploadId>{name}+/</UploadId>"
            f"<Initiated>{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:%S.000Z}</Initiated></Upload>"
            for name, age in self.server.begun.items()
            if (name == "c") == bool(after)
        )
        more = (
            ""
            if after
            else "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>b</NextUploadIdMarker>"
        )
        self._answer(
            '<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"{listed}<IsTruncated>{str(not after).lower()}</IsTruncated>{more}</R>"
        )

    def do_DELETE(self) -> None:
        self.server.aborted.append(self.path)
        self._answer("")

    def _answer(self, body: str) -> None:
        url = f"http://{self.headers['host']}{self.path}"
        stamp, signature = self.headers["x-amz-date"], self.headers["authorization"]
        self.server.signed.append((self.command, url, stamp, signature))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def uploads_of(bucket: Bucket) -> MultipartUploads:
    endpoint = {"AWS_ENDPOINT": f"http://127.0.0.1:{bucket.server_port}"}
    uploads = MultipartUploads.open("s3://shop/vitrine", KEYS | endpoint)
    assert uploads is not None
    return uploads


def test_old_uploads_of_the_service_s_own_folders_are_aborted_and_no_others(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uploads_of(bucket).abort_older(DAY) == 8
    assert bucket.aborted == [
        f"/shop/vitrine/{folder}/{name}%401?uploadId={name}%2B%2F"
        for folder in ("datasets", "models", "jobs", "generated")
        for name in ("b", "c")
    ]
    for method, url, stamp, signature in bucket.signed:
        assert signature == request_signature(method, url, stamp, monkeypatch)


def test_a_store_that_refuses_is_an_outage(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.status = 403
    with pytest.raises(ConnectionError, match="403"):
        uploads_of(bucket).abort_older(DAY)
    endpoint = {"AWS_ENDPOINT": f"http://127.0.0.1:{bucket.server_port}"}
    for name, value in {**KEYS, **endpoint}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError) as told:
        Storage.open("s3://shop/vitrine").sweep_unfinished(DAY)
    assert "127.0.0.1" not in str(told.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "https://s3.us-east-1.amazonaws.com/shop"),
        ({"AWS_ENDPOINT": "http://objects:8333/"}, "http://objects:8333/shop"),
        (
            {"AWS_ENDPOINT": "https://shop.x.com", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            "https://shop.x.com",
        ),
    ],
)
def test_a_bucket_is_where_its_environment_says(environment: dict[str, str], expected: str) -> None:
    uploads = MultipartUploads.open("s3://shop/vitrine", KEYS | environment)
    assert uploads is not None
    assert (uploads.bucket_url, uploads.prefix) == (expected, "vitrine/")


def test_only_an_s3_store_with_an_access_key_is_looked_at() -> None:
    assert MultipartUploads.open("gs://shop", KEYS) is None
    assert MultipartUploads.open("s3://shop", {}) is None
    assert "AWS_ACCESS_KEY_ID" not in os.environ or MultipartUploads.open("s3://a", os.environ)
