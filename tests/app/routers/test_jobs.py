"""Jobs as clients see them while no worker runs: queued, listed, cancelled."""

import io
import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.main import create_app
from tests.app.conftest import Serve, disconnect
from tests.app.problems import Answer, assert_problem
from tests.wire import connect, listening, received
from worker.attempt.attempt import Attempt
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.artifacts import JobFiles
from worker.queue.queue import JobQueue
from worker.registry.bundled_models import SAMPLE_DATASET, add_sample_dataset
from worker.schemas.jobs import JobProgress, JobStatus
from worker.schemas.requests import NasJob, TrainJob
from worker.settings import Settings
from worker.storage import Storage

FIELDS = {
    *("id", "type", "status", "stage", "attempt", "queue_position", "queue_eta_s", "progress"),
    *("metrics", "result", "error", "request", "created_at", "started_at", "finished_at", "links"),
}
UNKNOWN = "job_00000000000000000000"


def submit(client: TestClient, dataset_id: str, **changes: object) -> str:
    body = {"dataset": dataset_id, "model": "shoes", "batch_size": 8, **changes}
    response = client.post("/jobs/train", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/jobs/{response.json()['id']}"
    return str(response.json()["id"])


def test_a_submitted_job_waits_and_can_be_read(client: TestClient, dataset_id: str) -> None:
    first = submit(client, dataset_id, seed=5, metadata={"shop": "A"})
    second = submit(client, dataset_id)
    job = client.get(f"/jobs/{first}").json()

    assert set(job) == FIELDS
    assert (job["type"], job["status"], job["attempt"]) == ("train", "queued", 1)
    assert set(job["progress"]) == {"step", "total", "percent", "eta_s"}
    assert (job["request"]["seed"], job["request"]["metadata"]) == (5, {"shop": "A"})
    assert job["request"]["dataset"] == dataset_id
    assert datetime.fromisoformat(job["created_at"]).utcoffset() == timedelta(0)
    assert (job["started_at"], job["finished_at"], job["error"]) == (None, None, None)
    assert job["links"]["self"] == f"/jobs/{first}"
    assert job["links"]["cancel"] == f"/jobs/{first}/cancel"
    assert job["queue_position"] == 0
    assert client.get(f"/jobs/{second}").json()["queue_position"] == 1


def test_a_job_may_switch_remedies_on(client: TestClient, dataset_id: str) -> None:
    wanted = {"clip_norm": 1, "discriminator_steps": 2, "instance_noise": 0.1, "dynamic_lr": True}
    job = client.get(f"/jobs/{submit(client, dataset_id, remedies=wanted)}").json()
    assert job["request"]["remedies"] == wanted


def test_a_search_waits_with_all_that_it_was_not_told(client: TestClient, storage: Storage) -> None:
    add_sample_dataset(storage)
    body = {"dataset": SAMPLE_DATASET, "model": "shoes", "generate": {"n": 2, "category": "hat"}}
    response = client.post("/jobs/nas", json=body)
    assert response.status_code == 202, response.text
    job = client.get(response.headers["location"]).json()
    assert (job["type"], job["status"]) == ("nas", "queued")
    assert [each["metric"] for each in job["request"]["objectives"]] == [
        *("kid", "latency_ms", "parameters")
    ]
    assert job["request"]["generate"]["seed"] == 0
    assert [each["id"] for each in client.get("/jobs?type=nas").json()["data"]] == [job["id"]]
    assert client.get("/jobs?type=train").json()["data"] == []


def test_a_search_of_too_few_photos_is_refused(client: TestClient) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for number in range(24):
            shade = io.BytesIO()
            Image.new("L", (32, 32), 10 * number).save(shade, "png")
            target.writestr(f"{'ab'[number % 2]}/{number}.png", shade.getvalue())
    dataset = client.post("/datasets", files={"file": ("a.zip", archive.getvalue())}).json()
    assert dataset["images"] == 24, dataset
    response = client.post("/jobs/nas", json={"dataset": dataset["id"], "model": "shoes"})
    assert_problem(response, 422, "invalid_request")
    assert "too few photos for a search" in response.json()["detail"]


@pytest.mark.parametrize(
    ("request_changes", "status", "says"),
    [
        ({}, "succeeded", None),
        ({}, "running", "must be a nas job that has succeeded"),
        ({"resolution": 64}, "succeeded", "searched at 64 px"),
    ],
)
def test_an_architecture_is_taken_from_a_search_that_has_one(
    client: TestClient,
    dataset_id: str,
    jobs: JobQueue,
    request_changes: dict[str, int],
    status: str,
    says: str | None,
) -> None:
    search = NasJob.model_validate(
        {"dataset": dataset_id, "model": "shoes", "resolution": 32} | request_changes
    )
    record = jobs.submit("nas", search)
    running = jobs.ledger.claim(record.id, "delivery-1")
    assert running is not None
    if status == "succeeded":
        Attempt(jobs.ledger, running).succeed({})
    body = {
        "dataset": dataset_id, "model": "shoes", "resolution": 32, "batch_size": 8,
        "architecture": {"from_job": record.id},
    }  # fmt: skip
    response = client.post("/jobs/train", json=body)
    if says is None:
        assert response.status_code == 202
        assert response.json()["request"]["architecture"] == {"from_job": record.id}
    else:
        assert_problem(response, 422, "invalid_request")
        assert says in response.json()["detail"]


def test_jobs_are_listed_newest_first_in_pages(client: TestClient, dataset_id: str) -> None:
    submitted = [submit(client, dataset_id) for _ in range(5)]
    pages, after = [], None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        page = client.get("/jobs", params=query).json()
        pages.append([job["id"] for job in page["data"]])
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [job for page in pages for job in page] == sorted(submitted, reverse=True)


def test_a_list_can_be_narrowed(client: TestClient, dataset_id: str) -> None:
    waiting, ended = submit(client, dataset_id), submit(client, dataset_id)
    client.post(f"/jobs/{ended}/cancel")

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in client.get("/jobs", params=query).json()["data"]]

    assert ids(status="queued") == [waiting]
    assert ids(status="cancelled", type="train") == [ended]
    assert ids(status="running") == []


def test_a_list_can_be_narrowed_to_a_model(client: TestClient, dataset_id: str) -> None:
    shoes, hats = submit(client, dataset_id), submit(client, dataset_id, model="hats")
    images = client.post("/jobs/generate", json={"n": 1}).json()["id"]
    client.post(f"/jobs/{hats}/cancel")

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in client.get("/jobs", params=query).json()["data"]]

    assert ids(model="shoes") == [shoes]
    assert ids(model="hats", status="cancelled") == [hats]
    assert ids(model="fashion-mnist", type="generate") == [images]  # the default one, by its name
    assert ids(model="hats", status="queued") == ids(model="nobody") == []
    answer = client.get("/jobs?model=shoes:1")
    assert_problem(answer, 422, "invalid_request")


def test_an_empty_list_is_a_page(client: TestClient) -> None:
    assert client.get("/jobs").json() == {"data": [], "has_more": False, "last_id": None}


def test_a_waiting_job_is_cancelled_at_once_however_often(
    client: TestClient, dataset_id: str, jobs: JobQueue
) -> None:
    job = submit(client, dataset_id)
    answers = [client.post(f"/jobs/{job}/cancel") for _ in range(2)]
    assert {(each.status_code, each.json()["status"]) for each in answers} == {(202, "cancelled")}
    assert answers[0].json()["finished_at"] is not None
    assert answers[0].text == answers[1].text
    assert jobs.ledger.records.read(job).revision == 2


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_the_cancel_of_a_job_that_has_ended_is_told_so(
    client: TestClient, dataset_id: str, jobs: JobQueue, end: JobStatus
) -> None:
    job = submit(client, dataset_id)
    held = jobs.ledger.claim(job, "delivery-1")
    assert held is not None
    jobs.ledger.commit(held, end)
    answer = client.post(f"/jobs/{job}/cancel")
    detail = assert_problem(answer, 409, "job_has_ended")["detail"]
    assert detail == f"{job} has {end}: there is nothing left to cancel"


def test_a_running_job_is_asked_to_stop_as_often_as_one_likes(
    client: TestClient, dataset_id: str, jobs: JobQueue
) -> None:
    job = submit(client, dataset_id)
    assert jobs.ledger.claim(job, "delivery-1") is not None
    for _ in range(2):
        response = client.post(f"/jobs/{job}/cancel")
        assert (response.status_code, response.json()["status"]) == (202, "cancelling")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", "/cancel"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/metrics.jsonl"),
    ],
)
def test_an_unknown_job_is_404(client: TestClient, method: str, path: str) -> None:
    assert_problem(client.request(method, f"/jobs/{UNKNOWN}{path}"), 404, "job_not_found")


def test_artifacts_are_listed_and_served_once_they_exist(
    client: TestClient, dataset_id: str, jobs: JobQueue
) -> None:
    job = submit(client, dataset_id)
    assert client.get(f"/jobs/{job}/artifacts").json()["data"] == []
    url = f"/jobs/{job}/artifacts/metrics.jsonl"
    assert_problem(client.get(url), 404, "not_found")

    lines = b'{"step": 1}\n'
    JobFiles(jobs.ledger.storage, job).put(1, "metrics.jsonl", lines)
    assert client.get(f"/jobs/{job}/artifacts").json()["data"] == [
        {"name": "metrics.jsonl", "size_bytes": len(lines), "url": url}
    ]
    assert client.get(url).content == lines
    assert client.get(url).headers["content-type"] == "application/x-ndjson"


def test_the_result_of_bulk_generation_leads_to_its_files_which_are_listed_first(
    client: TestClient, jobs: JobQueue
) -> None:
    job = client.post("/jobs/generate", json={"n": 2}).json()["id"]
    held = jobs.ledger.claim(job, "delivery-1")
    assert held is not None
    attempt = Attempt(jobs.ledger, held)
    images = ["generated-00000.png", "generated-00001.png"]
    for name in (*images, "generated.zip", "generated.jsonl", "generated.png"):
        attempt.store(name, name.encode())
    attempt.succeed({"model": "fashion-mnist", "version": 1, "generated": 2})

    links = client.get(f"/jobs/{job}").json()["result"]["links"]
    assert client.get(links["version"]).json()["version"] == 1
    assert client.get(links["samples"]).headers["content-type"] == "image/png"
    found = {kind: client.get(links[kind]).text for kind in ("zip", "manifest", "sheet")}
    assert found == {
        "zip": "generated.zip",
        "manifest": "generated.jsonl",
        "sheet": "generated.png",
    }
    names: list[str] = []
    more = True
    while more:
        after = f"&after={names[-1]}" if names else ""
        page = client.get(f"/jobs/{job}/artifacts?limit=2{after}").json()
        names += [file["name"] for file in page["data"]]
        more = page["has_more"]
    assert names == ["generated.jsonl", "generated.png", "generated.zip", *images]


def test_a_poll_costs_nothing_while_the_job_has_not_changed(
    client: TestClient, dataset_id: str
) -> None:
    job = submit(client, dataset_id)
    first = client.get(f"/jobs/{job}")
    assert (first.headers["retry-after"], first.headers["cache-control"]) == ("5", "no-cache")
    same = client.get(f"/jobs/{job}", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert client.get(f"/jobs/{job}", headers={"If-None-Match": "*"}).status_code == 304
    client.post(f"/jobs/{job}/cancel")
    changed = client.get(f"/jobs/{job}", headers={"If-None-Match": first.headers["etag"]})
    assert changed.json()["status"] == "cancelled"
    assert changed.headers["etag"] != first.headers["etag"]
    assert "retry-after" not in changed.headers


def test_an_ended_job_can_be_deleted_with_its_files(
    client: TestClient, dataset_id: str, jobs: JobQueue
) -> None:
    job, other = submit(client, dataset_id), submit(client, dataset_id)
    assert_problem(client.delete(f"/jobs/{job}"), 409, "job_has_not_ended")
    JobFiles(jobs.ledger.storage, job).put(1, "metrics.jsonl", b"")
    client.post(f"/jobs/{job}/cancel")
    assert client.delete(f"/jobs/{job}").status_code == 204
    for path in ("", "/artifacts", "/events"):
        assert_problem(client.get(f"/jobs/{job}{path}"), 404, "job_not_found")
    assert_problem(client.delete(f"/jobs/{job}"), 404, "job_not_found")
    assert [each["id"] for each in client.get("/jobs").json()["data"]] == [other]
    assert not [key for key in jobs.ledger.storage.keys("jobs") if job in key]


def test_a_full_queue_takes_no_more(serve: Serve, dataset_id: str) -> None:
    client = serve(max_queued_jobs=1)
    submit(client, dataset_id)
    response = client.post("/jobs/train", json={"dataset": dataset_id, "model": "shoes"})
    assert_problem(response, 429, "queue_full")


def test_without_redis_a_submission_is_refused_soon_and_a_cancel_is_kept(
    serve: Serve, dataset_id: str, tmp_path: Path
) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey:
        client = serve(redis_url=valkey.url)
        job = submit(client, dataset_id)
    body = {"dataset": dataset_id, "model": "shoes", "batch_size": 8}
    started = time.monotonic()
    assert_problem(client.post("/jobs/train", json=body), 503, "redis_unavailable")
    assert time.monotonic() - started < 2
    assert client.post(f"/jobs/{job}/cancel").json()["status"] == "cancelled"


@pytest.mark.parametrize("path", ["/jobs/train", "/jobs/nas"])
def test_a_job_that_is_sent_twice_with_a_key_is_one(
    client: TestClient, dataset_id: str, path: str
) -> None:
    body = {"dataset": dataset_id, "model": "shoes"}
    key = {"Idempotency-Key": "order-1"}

    def send(_: int) -> Answer:
        return client.post(path, json=body, headers=key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(40)))
    first = answers[0]
    assert first.status_code == 202
    assert {answer.text for answer in answers} == {first.text}
    assert {answer.headers["Location"] for answer in answers} == {first.headers["Location"]}
    assert len(client.get("/jobs").json()["data"]) == 1

    client.post(f"{first.headers['Location']}/cancel")
    assert send(0).text == first.text

    other = client.post(path, json=body | {"seed": 1}, headers=key)
    assert_problem(other, 422, "idempotency_key_reused")
    assert client.post(path, json=body).json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "k" * 256])
def test_a_key_that_is_none_is_refused(client: TestClient, dataset_id: str, key: str) -> None:
    body = {"dataset": dataset_id, "model": "shoes"}
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = client.post("/jobs/train", json=body, headers=headers)
    assert_problem(answer, 422, "invalid_request")


def events_of(text: str) -> list[tuple[str, str, dict[str, object]]]:
    """Ids, kinds and data of a stream."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def told(client: TestClient, dataset_id: str, jobs: JobQueue) -> str:
    """The id of a short job that has ended, with its events."""
    job_id = submit(client, dataset_id)
    running = jobs.ledger.claim(job_id, "delivery-1")
    assert running is not None
    claim = Attempt(jobs.ledger, running)
    claim.report("training", JobProgress(step=1), {"loss": 0.5})
    claim.succeed({})
    return job_id


def test_events_tell_a_jobs_story_from_wherever_one_has_stopped(
    client: TestClient, told: str
) -> None:
    whole = client.get(f"/jobs/{told}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    events = events_of(whole.text)
    assert [kind for _, kind, _ in events] == ["status", "status", "progress", "metric", "status"]
    assert events[-1][2] == {"status": "succeeded", "attempt": 1}
    for seen, (number, _, _) in enumerate(events, start=1):
        rest = client.get(f"/jobs/{told}/events", headers={"Last-Event-ID": number})
        assert events_of(rest.text) == events[seen:] if seen < len(events) else rest.text == ""


def test_a_stream_of_events_ends_well_when_the_server_does(
    settings: Settings, jobs: JobQueue
) -> None:
    job = jobs.submit("train", TrainJob(dataset=SAMPLE_DATASET, model="shoes"))
    app = create_app(settings)
    with listening(app) as port:
        wire = connect(port)
        wire.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: testserver\r\n\r\n" % job.id.encode())
        beginning, closed = received(wire, quiet_s=0.5)
        assert (b"event: status" in beginning, closed) == (True, False)
        told = time.monotonic()
    assert time.monotonic() - told < 3
    assert received(wire, quiet_s=0.5) == (b"0\r\n\r\n", True)
    wire.close()
    disconnect(app)


def test_events_come_in_pages_as_json(client: TestClient, told: str) -> None:
    url, headers = f"/jobs/{told}/events", {"Accept": "application/json"}
    first = client.get(url, params={"limit": 3}, headers=headers).json()
    rest = client.get(url, params={"after": first["last_id"]}, headers=headers).json()
    assert (first["has_more"], rest["has_more"]) == (True, False)
    kinds = [event["kind"] for event in first["data"] + rest["data"]]
    assert kinds == ["status", "status", "progress", "metric", "status"]


def test_the_end_of_a_job_is_told_though_redis_has_lost_its_events(
    client: TestClient, dataset_id: str, jobs: JobQueue
) -> None:
    job_id = submit(client, dataset_id)
    jobs.leases.redis.flushall()
    jobs.cancel(job_id)
    jobs.leases.redis.flushall()
    jobs.ledger.storage.delete(f"jobs/events/{job_id}.jsonl")
    ((_, kind, data),) = events_of(client.get(f"/jobs/{job_id}/events").text)
    assert (kind, data) == ("status", {"status": "cancelled", "attempt": 1})


@pytest.mark.parametrize("seen", ["", "x", "1", "1-2-3", "99999999999999999-0"])
def test_a_last_event_id_that_is_none_is_refused(client: TestClient, told: str, seen: str) -> None:
    answer = client.get(f"/jobs/{told}/events", headers={"Last-Event-ID": seen})
    assert_problem(answer, 422, "invalid_request")


def test_a_data_set_is_deleted_once_no_job_uses_it(client: TestClient, dataset_id: str) -> None:
    job = submit(client, dataset_id)
    answer = client.delete(f"/datasets/{dataset_id}")
    assert_problem(answer, 409, "dataset_in_use")
    assert job in answer.json()["detail"]
    client.post(f"/jobs/{job}/cancel")
    assert client.delete(f"/datasets/{dataset_id}").status_code == 204
    assert_problem(client.get(f"/datasets/{dataset_id}"), 404, "dataset_not_found")
    assert_problem(client.delete(f"/datasets/{dataset_id}"), 404, "dataset_not_found")
