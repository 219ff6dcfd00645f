"""Signed links to images, and asynchronous generation."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer, entry
from worker.queue.queue import JobQueue
from worker.registry.image_links import ImageLinks
from worker.schemas.jobs import now
from worker.schemas.requests import GenerateJob
from worker.storage import Storage

BAGS = {"category": "Bag", "n": 3, "seed": 5}


def test_a_link_leads_to_the_image_without_a_key(serve: Serve) -> None:
    client = serve(api_key_hashes=entry("generate", "shop-key"))
    key = bearer("shop-key")
    answer = client.post("/generate", json={**BAGS, "response_format": "url"}, headers=key)
    items = answer.json()["data"]
    assert [item["b64_json"] for item in items] == [None] * 3
    for item in items:
        assert item["url"].startswith(f"http://testserver/images/{answer.json()['id']}/")
        image = client.get(item["url"])
        assert image.headers["content-type"] == "image/png"
        assert hashlib.sha256(image.content).hexdigest() == item["sha256"]


def test_links_begin_with_the_public_address(serve: Serve) -> None:
    client = serve(public_url="https://images.example.com")
    answer = client.post("/generate", json={"response_format": "url"})
    assert answer.json()["data"][0]["url"].startswith("https://images.example.com/images/gen_")


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url[:-1] + ("1" if url.endswith("0") else "0"),
        lambda url: url[:-64] + "%C3%A9" * 64,  # as long, and not ASCII
        lambda url: url[:-64],
        lambda url: url.replace("expires=", "expires=1"),
        lambda url: url.replace("/00.png", "/01.png"),
    ],
    ids=["signature", "letters", "none", "expiry", "image"],
)
def test_a_link_that_was_changed_is_refused(
    client: TestClient, change: Callable[[str], str]
) -> None:
    answer = client.post("/generate", json={"n": 2, "response_format": "url"})
    url = answer.json()["data"][0]["url"]
    assert client.get(url).status_code == 200
    assert_problem(client.get(change(url)), 403, "link_refused")


def test_a_link_and_its_image_end(
    client: TestClient, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = client.post("/generate", json={"response_format": "url"}).json()["data"][0]["url"]
    links = ImageLinks(storage, 3600)
    links.sweep()
    assert client.get(url).status_code == 200
    later = now() + timedelta(seconds=3601)
    monkeypatch.setattr("worker.registry.image_links.time.time", later.timestamp)
    monkeypatch.setattr("worker.registry.image_links.now", lambda: later)
    assert_problem(client.get(url), 403, "link_refused")
    links.sweep()
    assert list(storage.keys("generated")) == []


def test_a_zip_holds_all_images_and_tells_of_them(client: TestClient) -> None:
    plain = client.post("/generate", json=BAGS).json()["data"]
    first, second = (
        client.post("/generate", json=BAGS, headers={"Accept": "application/zip"}) for _ in range(2)
    )
    assert first.headers["content-type"] == "application/zip"
    assert first.content == second.content
    with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
        lines = [json.loads(line) for line in archive.read("generated.jsonl").splitlines()]
        assert [line["file"] for line in lines] == ["00.png", "01.png", "02.png"]
        for line, item in zip(lines, plain, strict=True):
            assert hashlib.sha256(archive.read(line["file"])).hexdigest() == item["sha256"]
            assert (line["seed"], line["category"]) == (item["seed"], "Bag")


def test_who_prefers_not_to_wait_gets_a_job(client: TestClient, jobs: JobQueue) -> None:
    body = {**BAGS, "n": 500, "model": "fashion-mnist@production"}
    answer = client.post("/generate", json=body, headers={"Prefer": "respond-async, wait=10"})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    job = jobs.fetch(answer.json()["id"]).request
    assert isinstance(job, GenerateJob)
    # What the alias meant when the client asked.
    assert (job.model, job.category, job.n, job.seed) == ("fashion-mnist:1", "Bag", 500, 5)


def test_a_job_without_a_seed_is_given_one(client: TestClient) -> None:
    seeds = set()
    for _ in range(2):
        request = client.post("/jobs/generate", json={"n": 1}).json()["request"]
        seeds.add(request["seed"])
    assert len(seeds) == 2
    assert all(isinstance(seed, int) for seed in seeds)


def test_a_key_for_generating_sees_its_own_kind_of_job_alone(serve: Serve, dataset_id: str) -> None:
    keys = ",".join([entry("generate", "shop-key"), entry("manage", "owner-key")])
    client = serve(api_key_hashes=keys)
    shop, owner = bearer("shop-key"), bearer("owner-key")
    bulk = client.post("/jobs/generate", json={"n": 2}, headers=shop)
    assert bulk.status_code == 202
    train = {"dataset": dataset_id, "model": "shoes", "batch_size": 8}
    assert_problem(client.post("/jobs/train", json=train, headers=shop), 403, "forbidden")
    training = client.post("/jobs/train", json=train, headers=owner)
    for path in ("", "/artifacts", "/events"):
        accept = {"Accept": "application/json"}
        seen = client.get(bulk.headers["location"] + path, headers=shop | accept)
        assert seen.status_code == 200
        hidden = client.get(training.headers["location"] + path, headers=shop | accept)
        assert_problem(hidden, 404, "job_not_found")
    hidden = client.post(training.headers["location"] + "/cancel", headers=shop)
    assert_problem(hidden, 404, "job_not_found")
    assert client.post(bulk.headers["location"] + "/cancel", headers=shop).status_code == 202


def test_files_are_listed_in_pages(client: TestClient, storage: Storage) -> None:
    job = client.post("/jobs/generate", json={"n": 2}).json()["id"]
    names = [f"generated-{number:05d}.png" for number in range(5)]
    for name in names:
        storage.put(f"jobs/artifacts/{job}/000001/{name}", name.encode())
    seen: list[str] = []
    after = ""
    while True:
        page = client.get(f"/jobs/{job}/artifacts?limit=2{after}").json()
        seen += [item["name"] for item in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert seen == names
    file = client.get(f"/jobs/{job}/artifacts/{names[3]}")
    assert (file.content, file.headers["content-length"]) == (names[3].encode(), "19")
