"""Damaged and foreign objects: each answers for itself, and everything else goes on."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.app.conftest import Serve
from tests.app.exposition import series
from tests.app.problems import assert_problem
from worker.queue.queue import JobQueue
from worker.registry.model_versions import NewVersion
from worker.registry.registry import Registry
from worker.storage import Storage

MODEL = "/models/fashion-mnist"
CUT = [b"", b'{"id":', b"{}"]  # what a power failure or a disk may leave of a record


def counted(client: TestClient, kind: str) -> float:
    """How many damaged objects of this kind the process has found."""
    name = ("vitrine_damaged_objects_total", (("kind", kind),))
    return series(client.get("/metrics").text).get(name, 0)


@pytest.mark.parametrize("left", CUT)
@pytest.mark.parametrize("indexed", [True, False])
def test_a_damaged_job_is_missing_from_the_list_and_answers_for_itself_alone(
    client: TestClient, jobs: JobQueue, storage: Storage, left: bytes, indexed: bool
) -> None:
    made = [client.post("/jobs/generate", json={"n": 1}).json()["id"] for _ in range(3)]
    if indexed:
        assert len(client.get("/jobs").json()["data"]) == 3
    else:
        jobs.leases.redis.flushall()
    before = counted(client, "job")
    storage.put(f"jobs/records/{made[1]}/000002.json", left)
    for _ in range(2):
        page = client.get("/jobs")
        assert page.status_code == 200
        assert [job["id"] for job in page.json()["data"]] == [made[2], made[0]]
    body = assert_problem(client.get(f"/jobs/{made[1]}"), 503, "record_damaged")
    assert "backup" in body["detail"]
    assert counted(client, "job") == before + 1


@pytest.mark.parametrize("left", CUT)
def test_a_damaged_data_set_is_missing_from_the_list_and_can_be_deleted(
    client: TestClient, storage: Storage, dataset_id: str, left: bytes
) -> None:
    before = counted(client, "dataset")
    storage.put(f"datasets/{dataset_id}/dataset.json", left)
    assert client.get("/datasets").json()["data"] == []
    assert_problem(client.get(f"/datasets/{dataset_id}"), 503, "record_damaged")
    assert counted(client, "dataset") == before + 1
    assert client.delete(f"/datasets/{dataset_id}").status_code == 204
    assert_problem(client.get(f"/datasets/{dataset_id}"), 404, "dataset_not_found")


@pytest.mark.parametrize("left", CUT)
def test_a_damaged_card_takes_no_other_version_along(
    serve: Serve, registry: Registry, tiny_version: NewVersion, storage: Storage, left: bytes
) -> None:
    again = NewVersion(**{**vars(tiny_version), "origin": "job_00000000000000000000"})
    registry.register(again)
    registry.register(NewVersion(**{**vars(tiny_version), "name": "shoes"}))
    for key in ("fashion-mnist/versions/2", "shoes/versions/1"):
        storage.put(f"models/{key}/card.json", left)
    client = serve()
    shown = {model["name"]: model["versions"] for model in client.get("/models").json()["data"]}
    assert [version["version"] for version in shown["fashion-mnist"]] == [1]
    assert shown["shoes"] == []
    assert_problem(client.get(f"{MODEL}/versions/2"), 503, "record_damaged")
    assert_problem(client.put(f"{MODEL}/aliases/a", json={"version": 2}), 503, "record_damaged")
    assert client.post("/generate", json={}).status_code == 200
    assert registry.register(NewVersion(**{**vars(again), "origin": "job_1"})).version == 3


@pytest.mark.parametrize("left", CUT)
def test_a_damaged_alias_answers_for_itself_and_is_repaired_by_pointing_it_anew(
    serve: Serve, registry: Registry, storage: Storage, left: bytes
) -> None:
    storage.put("models/fashion-mnist/aliases/production/00000002.json", left)
    registry.point("fashion-mnist", "canary", 1)
    client = serve()
    body = assert_problem(client.get("/health/ready"), 503, "not_ready")
    assert body["detail"] == "Missing: default model."
    assert_problem(client.post("/generate", json={}), 503, "record_damaged")
    canary = client.post("/generate", json={"model": "fashion-mnist@canary"})
    assert canary.status_code == 200
    assert client.get(MODEL).json()["aliases"] == {"canary": 1}
    history = client.get(f"{MODEL}/aliases/production/history").json()["data"]
    assert [change["version"] for change in history] == [1]
    assert_problem(client.delete(f"{MODEL}/versions/1"), 409, "version_in_use")
    pointed = client.put(f"{MODEL}/aliases/production", json={"version": 1})
    assert pointed.status_code == 200
    assert client.post("/generate", json={}).status_code == 200
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("left", CUT)
def test_damaged_events_leave_the_others(
    client: TestClient, jobs: JobQueue, storage: Storage, left: bytes
) -> None:
    job = client.post("/jobs/generate", json={"n": 1}).json()["id"]
    client.post(f"/jobs/{job}/cancel")
    list(jobs.ledger.active())
    key = f"jobs/events/{job}.jsonl"
    *first, last = storage.read(key).splitlines(keepends=True)
    assert first
    storage.put(key, b"".join([*first, left]) if left else b"")
    answer = client.get(f"/jobs/{job}/events", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["data"][-1]["data"]["status"] == json.loads(last)["data"]["status"]


@pytest.mark.parametrize("left", CUT)
def test_a_damaged_idempotency_key_refuses_its_own_request_alone(
    client: TestClient, storage: Storage, left: bytes
) -> None:
    first, second = {"Idempotency-Key": "one"}, {"Idempotency-Key": "two"}
    assert client.post("/jobs/generate", json={"n": 1}, headers=first).status_code == 202
    [key] = storage.keys("idempotency")
    storage.put(key, left)
    answer = client.post("/jobs/generate", json={"n": 1}, headers=first)
    assert_problem(answer, 503, "record_damaged")
    assert client.post("/jobs/generate", json={"n": 1}, headers=second).status_code == 202


def test_foreign_objects_are_no_models_data_sets_or_jobs(
    client: TestClient, storage: Storage, dataset_id: str, jobs: JobQueue, tmp_path: Path
) -> None:
    job = client.post("/jobs/generate", json={"n": 1}).json()["id"]
    for key in (
        *("models/My-Model/versions/1/card.json", "models/_tmp/readme", "models/.DS_Store"),
        *("models/fashion-mnist/versions/old/card.json", "models/fashion-mnist/versions/.DS_Store"),
        *("models/fashion-mnist/aliases/UPPER/00000001.json",),
        *("models/fashion-mnist/aliases/production/.DS_Store",),
        *("datasets/backup/dataset.json", "datasets/.DS_Store", f"datasets/{dataset_id}x/a"),
        *("jobs/open/.DS_Store", "jobs/records/.DS_Store", "jobs/records/backup/000001.json"),
        *(f"jobs/records/{job}/.DS_Store", f"jobs/records/{job}/copy/000007.json"),
        f"jobs/artifacts/{job}/.DS_Store",
        f"jobs/artifacts/{job}/000001/Thumbs.db",
    ):
        storage.put(key, b"foreign")
    (tmp_path / "objects" / "models" / "My Model").mkdir()
    (tmp_path / "objects" / "models" / "My Model" / "card.json").write_text("foreign")
    jobs.leases.redis.flushall()
    [model] = client.get("/models").json()["data"]
    assert (model["name"], model["aliases"]) == ("fashion-mnist", {"production": 1})
    assert [dataset["id"] for dataset in client.get("/datasets").json()["data"]] == [dataset_id]
    assert [shown["id"] for shown in client.get("/jobs").json()["data"]] == [job]
    assert client.get(f"/jobs/{job}/artifacts").json()["data"] == []
