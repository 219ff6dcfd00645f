"""Uploads with `Prefer: respond-async`: the zip is stored, and a job imports it."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.keys import entry
from app.main import create_app
from tests.app.conftest import Serve, disconnect
from tests.app.problems import assert_problem
from worker.attempt.attempt import Attempt
from worker.datasets.direct_uploads import key_of
from worker.imports.import_job import run_import
from worker.queue.queue import JobQueue
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.settings import Settings
from worker.storage import Storage

SAMPLE = SAMPLE_ARCHIVE.read_bytes()
LATER = {"Prefer": "wait=5, respond-async"}
HOOK = "https://1.1.1.1/hook"


def upload(
    client: TestClient,
    content: bytes = SAMPLE,
    headers: dict[str, str] = LATER,
    **fields: str,
) -> Response:
    return client.post("/datasets", files={"file": content}, data=fields, headers=headers)


def run(jobs: JobQueue, job_id: str) -> None:
    """Run an import job in this process."""
    claimed = jobs.ledger.claim(job_id, "this test")
    assert claimed is not None
    run_import(Attempt(jobs.ledger, claimed), jobs, lambda: False)


def test_an_upload_is_stored_and_queued_and_its_job_makes_the_data_set(
    client: TestClient, jobs: JobQueue, storage: Storage
) -> None:
    response = upload(client, name="Été", normalise="studio", webhook=HOOK)
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == job["links"]["self"] == f"/jobs/{job['id']}"
    assert response.headers["preference-applied"] == "respond-async"
    assert (job["type"], job["status"], job["queue_position"]) == ("import", "queued", 0)
    sent = job["request"]
    assert (sent["name"], sent["normalise"], sent["webhook"]["url"]) == ("Été", "studio", HOOK)
    assert storage.read(key_of(sent["upload"])) == SAMPLE
    assert client.get("/jobs?type=import").json()["data"] == [job]
    assert client.get("/datasets").json()["data"] == []

    run(jobs, job["id"])
    ended = client.get(response.headers["location"]).json()
    assert (ended["status"], ended["progress"]["percent"]) == ("succeeded", 100)
    links = ended["result"]["links"]
    made = client.get(links["dataset"]).json()
    assert (made["id"], made["name"]) == (ended["result"]["dataset"], "Été")
    assert made["categories"] == ["dress", "hat", "pants", "shoes"]
    assert made["preparation"]["job"] == ended["result"]["preparation"]
    assert client.get(links["preparation"]).json()["type"] == "prepare"
    assert client.get(links["preview"]).headers["content-type"] == "image/png"
    assert list(storage.keys("uploads")) == []
    assert client.delete(f"/jobs/{job['id']}").status_code == 204
    assert client.get(links["dataset"]).status_code == 200


def test_a_full_queue_is_told_by_the_job(serve: Serve, jobs: JobQueue) -> None:
    client = serve()
    job = upload(client, normalise="studio").json()
    client.post("/jobs/generate", json={"n": 1})
    small = JobQueue(
        jobs.ledger, jobs.connection, jobs.settings.model_copy(update={"max_queued_jobs": 1})
    )
    run(small, job["id"])
    result = client.get(job["links"]["self"]).json()["result"]
    assert result["preparation"] is None
    assert "POST /jobs/prepare" in result["preparation_refused"]
    assert set(result["links"]) == {"dataset", "preview", "attributes"}


def test_what_the_directory_shows_is_refused_at_once(client: TestClient, storage: Storage) -> None:
    assert_problem(upload(client, b"no zip"), 422, "not_a_zip")
    assert_problem(upload(client, name="a\nb"), 422, "invalid_request")
    assert_problem(upload(client, webhook="ftp://1.1.1.1"), 422, "invalid_request")
    assert_problem(upload(client, webhook="https://127.0.0.1"), 422, "webhook_refused")
    assert list(storage.keys("uploads")) == []
    assert client.get("/jobs").json()["data"] == []


def test_an_upload_beyond_the_queue_is_429_and_not_stored(serve: Serve, storage: Storage) -> None:
    client = serve(max_queued_jobs=1)
    assert upload(client).status_code == 202
    assert_problem(upload(client), 429, "queue_full")
    assert len(list(storage.keys("uploads"))) == 1


def test_a_webhook_without_a_job_is_refused(client: TestClient) -> None:
    body = assert_problem(upload(client, headers={}, webhook=HOOK), 422, "invalid_request")
    assert body["detail"].startswith("webhook: Only with `Prefer")


def test_a_key_gets_one_job(client: TestClient, jobs: JobQueue, storage: Storage) -> None:
    headers = LATER | {"Idempotency-Key": "k"}
    first = upload(client, headers=headers)
    again = upload(client, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert len(list(storage.keys("uploads"))) == 1
    for other in (
        {"headers": headers, "name": "other"},
        {"headers": headers, "webhook": HOOK},
        {"headers": {"Idempotency-Key": "k"}},
    ):
        assert_problem(upload(client, **other), 422, "idempotency_key_reused")
    run(jobs, first.json()["id"])
    assert upload(client, headers=headers).json()["id"] == first.json()["id"]
    assert list(storage.keys("uploads")) == []
    assert len(client.get("/jobs").json()["data"]) == 1


def test_a_key_sent_many_times_at_once_gets_one_job(client: TestClient) -> None:
    headers = LATER | {"Idempotency-Key": "k"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: upload(client, headers=headers), range(6)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({a.json()["id"] for a in answers if a.status_code == 202}) == 1
    assert len(client.get("/jobs").json()["data"]) == 1


def test_a_key_that_may_only_generate_does_not_see_it(serve: Serve) -> None:
    keys = ",".join((entry("manager", ["manage"]), entry("shop", ["generate"])))
    client = serve(api_key_hashes=keys)
    manager, shop = ({"Authorization": f"Bearer {key}"} for key in ("manager", "shop"))
    assert_problem(upload(client, headers=LATER | shop), 403, "forbidden")
    job = upload(client, headers=LATER | manager).json()
    assert client.get(job["links"]["self"], headers=manager).status_code == 200
    assert_problem(client.get(job["links"]["self"], headers=shop), 404, "job_not_found")
    cancelled = client.post(job["links"]["cancel"], headers=manager)
    assert cancelled.json()["status"] == "cancelled"


@pytest.fixture
def cloud(
    settings: Settings,
    tmp_path: Path,
    s3_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[TestClient, JobQueue]]:
    """The API on S3, and its queue; uploads may have 300 kB."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    changes = {"storage_url": f"s3://vitrine/{tmp_path.name}", "max_upload_bytes": 300_000}
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, app.state.services.queue
    disconnect(app)


def complete(client: TestClient, upload_id: str, **body: Any) -> Response:
    return client.post(f"/datasets/uploads/{upload_id}/complete", json=body, headers=LATER)


def test_a_direct_upload_is_completed_by_a_job(cloud: tuple[TestClient, JobQueue]) -> None:
    client, jobs = cloud
    store = jobs.ledger.storage
    ticket = client.post("/datasets/uploads").json()["upload"]
    assert_problem(complete(client, ticket), 404, "upload_not_found")
    store.put(key_of(ticket), io.BytesIO(SAMPLE))
    response = complete(client, ticket, name="direct", webhook={"url": HOOK})
    job = response.json()
    assert (response.status_code, job["request"]["name"]) == (202, "direct")
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert complete(client, ticket).json()["id"] == job["id"]
    run(jobs, job["id"])
    assert complete(client, ticket).json()["id"] == job["id"]
    made = client.get(job["links"]["self"]).json()["result"]["dataset"]
    at_once = client.post(f"/datasets/uploads/{ticket}/complete", json={})
    assert (at_once.status_code, at_once.json()["id"]) == (201, made)
    assert list(store.keys("uploads")) == []
    told = client.post(f"/datasets/uploads/{ticket}/complete", json={"webhook": {"url": HOOK}})
    assert_problem(told, 422, "invalid_request")


def test_a_direct_upload_that_was_completed_at_once_is_found(
    cloud: tuple[TestClient, JobQueue],
) -> None:
    client, jobs = cloud
    ticket = client.post("/datasets/uploads").json()["upload"]
    jobs.ledger.storage.put(key_of(ticket), SAMPLE)
    made = client.post(f"/datasets/uploads/{ticket}/complete", json={}).json()["id"]
    job = complete(client, ticket).json()
    run(jobs, job["id"])
    assert client.get(job["links"]["self"]).json()["result"]["dataset"] == made


def test_a_direct_upload_over_the_limit_is_refused_and_deleted(
    cloud: tuple[TestClient, JobQueue],
) -> None:
    client, jobs = cloud
    ticket = client.post("/datasets/uploads").json()["upload"]
    jobs.ledger.storage.put(key_of(ticket), bytes(300_001))
    assert_problem(complete(client, ticket), 413, "body_too_large")
    assert list(jobs.ledger.storage.keys("uploads")) == []


def test_an_upload_is_stored_on_s3(cloud: tuple[TestClient, JobQueue]) -> None:
    client, jobs = cloud
    job = upload(client).json()
    assert jobs.ledger.storage.read(key_of(job["request"]["upload"])) == SAMPLE
    run(jobs, job["id"])
    assert client.get(job["links"]["self"]).json()["status"] == "succeeded"


def test_both_answers_are_documented(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/datasets", "/datasets/uploads/{upload_id}/complete"):
        operation = document["paths"][path]["post"]
        schemas = {
            status: operation["responses"][status]["content"]["application/json"]["schema"]["$ref"]
            for status in ("201", "202")
        }
        assert [ref.rsplit("/", 1)[1] for ref in schemas.values()] == ["DatasetView", "JobView"]
        assert "Prefer" in {each["name"].title() for each in operation["parameters"]}
    form = document["components"]["schemas"]["Body_upload_dataset_datasets_post"]["properties"]
    assert (form["name"]["maxLength"], form["name"]["minLength"]) == (100, 1)
    assert set(form) == {"file", "name", "normalise", "webhook"}
