"""Direct uploads to the object store, over HTTP to an S3 server process."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.main import create_app
from tests.app.conftest import disconnect
from tests.app.problems import assert_problem
from tests.aws_signature import presigned_signature
from worker.datasets import direct_uploads
from worker.datasets.direct_uploads import forget_abandoned, key_of, open_upload
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.settings import Settings
from worker.storage import Storage

NOTHING_SENT = "up_00000000000000000000"


@pytest.fixture
def bucket(
    tmp_path: Path, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """A prefix of this test's own on the S3 server."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return Storage.open(f"s3://vitrine/{tmp_path.name}")


@pytest.fixture
def cloud(
    bucket: Storage,  # noqa: ARG001 - it points obstore to the server
    settings: Settings,
    tmp_path: Path,
) -> Iterator[TestClient]:
    """The API on S3; its uploads may have 300 kB."""
    changes = {"storage_url": f"s3://vitrine/{tmp_path.name}", "max_upload_bytes": 300_000}
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    disconnect(app)


def send(client: TestClient, content: bytes) -> str:
    """Open an upload and send the content as a client does; returns the upload's id."""
    opened = client.post("/datasets/uploads")
    assert opened.status_code == 201, opened.text
    ticket = opened.json()
    assert ticket["method"] == "PUT"
    with closing(httpx.Client()) as plain:
        sent = plain.put(ticket["url"], content=content, headers=ticket["headers"])
    assert sent.status_code == 200, sent.text
    return str(ticket["upload"])


def complete(client: TestClient, upload: str, **body: str) -> Response:
    return client.post(f"/datasets/uploads/{upload}/complete", json=body)


def test_a_zip_that_was_sent_to_the_store_becomes_a_data_set(
    cloud: TestClient, bucket: Storage
) -> None:
    upload = send(cloud, SAMPLE_ARCHIVE.read_bytes())
    response = complete(cloud, upload, name="Été")
    record = response.json()
    assert (response.status_code, response.headers["location"]) == (
        201,
        f"/datasets/{record['id']}",
    )
    assert (record["name"], record["categories"]) == ("Été", ["dress", "hat", "pants", "shoes"])
    assert cloud.get(f"/datasets/{record['id']}").json() == record
    assert list(bucket.keys("uploads")) == []
    again = complete(cloud, upload)
    assert (again.status_code, again.json()) == (201, record)
    assert bucket.folders("datasets") == [record["id"]]


def test_an_upload_goes_to_where_clients_reach_the_store(
    bucket: Storage,
    settings: Settings,
    tmp_path: Path,
    s3_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public = s3_environment["AWS_ENDPOINT"].replace("127.0.0.1", "localhost")
    own = {"storage_url": f"s3://vitrine/{tmp_path.name}", "public_storage_url": public}
    app = create_app(settings.model_copy(update=own))
    with TestClient(app, raise_server_exceptions=False) as client:
        ticket = client.post("/datasets/uploads").json()
        assert ticket["url"].startswith(f"{public}/vitrine/{tmp_path.name}/uploads/")
        signature = httpx.URL(ticket["url"]).params["X-Amz-Signature"]
        assert signature == presigned_signature("PUT", ticket["url"], monkeypatch)
        upload = send(client, SAMPLE_ARCHIVE.read_bytes())
        assert list(bucket.keys("uploads")) == [key_of(upload)]
        assert complete(client, upload).status_code == 201
    disconnect(app)


def test_there_are_no_direct_uploads_where_clients_cannot_reach_the_store(
    bucket: Storage,  # noqa: ARG001 - it points obstore to the server
    settings: Settings,
    tmp_path: Path,
) -> None:
    own = {"storage_url": f"s3://vitrine/{tmp_path.name}", "public_storage_url": "none"}
    app = create_app(settings.model_copy(update=own))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert_problem(client.post("/datasets/uploads"), 409, "no_direct_uploads")
    disconnect(app)


def test_what_is_handed_out_ends_within_the_hour(cloud: TestClient) -> None:
    ticket = cloud.post("/datasets/uploads").json()
    left = datetime.fromisoformat(ticket["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert "X-Amz-Expires=3600" in ticket["url"]


def test_an_invalid_zip_is_refused_and_deleted(cloud: TestClient, bucket: Storage) -> None:
    upload = send(cloud, b"no zip")
    assert_problem(complete(cloud, upload), 422, "not_a_zip")
    assert (list(bucket.keys("uploads")), bucket.folders("datasets")) == ([], [])
    assert_problem(complete(cloud, upload), 404, "upload_not_found")


def test_a_zip_over_the_limit_is_refused_unread_and_deleted(
    cloud: TestClient, bucket: Storage
) -> None:
    upload = send(cloud, SAMPLE_ARCHIVE.read_bytes().ljust(300_001, b"\0"))
    assert_problem(complete(cloud, upload), 413, "body_too_large")
    assert list(bucket.keys("uploads")) == []


def test_an_upload_that_was_not_sent_is_404(cloud: TestClient) -> None:
    assert_problem(complete(cloud, NOTHING_SENT), 404, "upload_not_found")
    assert_problem(complete(cloud, "..%2f..%2fdatasets"), 404, "not_found")


def test_a_bad_name_is_422_and_the_upload_stays(cloud: TestClient, bucket: Storage) -> None:
    upload = send(cloud, SAMPLE_ARCHIVE.read_bytes())
    assert_problem(complete(cloud, upload, name="a\nb"), 422, "invalid_request")
    assert_problem(complete(cloud, upload, owner="me"), 422, "invalid_request")
    assert list(bucket.keys("uploads")) == [key_of(upload)]


def test_a_store_without_addresses_says_so(client: TestClient) -> None:
    body = assert_problem(client.post("/datasets/uploads"), 409, "no_direct_uploads")
    assert "POST /datasets" in body["detail"]


def test_what_nobody_completes_is_deleted_after_a_day(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(open_upload(bucket).upload)
    bucket.put(key, b"a zip")
    forget_abandoned(bucket)
    assert list(bucket.keys("uploads")) == [key]
    tomorrow = datetime.now(UTC) + timedelta(hours=25)
    monkeypatch.setattr(direct_uploads, "now", lambda: tomorrow)
    forget_abandoned(bucket)
    assert list(bucket.keys("uploads")) == []
