"""Preparation of data sets over HTTP: uploads that queue it, what it shows, and attributes."""

import csv
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from models.cutouts.attributes import PhotoAttributes
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from worker.datasets.cutouts import CutoutStore
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.storage import Storage

PHOTOS = [
    PhotoAttributes(
        file=f"000/{number:06d}.jpg",
        category="dress",
        color="red",
        lab=(40.0, 60.5, 30.0),
        fill=0.7,
        area=0.4,
        contact=0.0,
        entropy=0.01,
        doubts=("the product's outline is unclear",) * (number == 1),
    )
    for number in range(5)
]


def upload(client: TestClient, **options: Any) -> Any:
    files = {"file": SAMPLE_ARCHIVE.read_bytes()}
    return client.post("/datasets", files=files, **options)


def test_an_upload_is_as_it_is_and_queues_nothing_by_default(client: TestClient) -> None:
    body = upload(client).json()
    assert (body["normalise"], body["preparation"]) == ("as_is", None)
    assert client.get("/jobs").json()["data"] == []


def test_a_studio_upload_queues_its_preparation_once(client: TestClient) -> None:
    options = {"data": {"normalise": "studio"}, "headers": {"Idempotency-Key": "k"}}
    body = upload(client, **options).json()
    assert body["normalise"] == "studio"
    assert body["preparation"]["summary"] is None
    job = client.get(body["preparation"]["links"]["job"]).json()
    assert (job["type"], job["status"], job["id"]) == (
        *("prepare", "queued"),
        body["preparation"]["job"],
    )
    assert job["request"]["dataset"] == body["id"]
    assert upload(client, **options).json() == body
    assert [each["id"] for each in client.get("/jobs?type=prepare").json()["data"]] == [job["id"]]
    assert client.get(f"/datasets/{body['id']}").json() == body
    assert_problem(upload(client, headers=options["headers"]), 422, "idempotency_key_reused")
    assert_problem(client.delete(f"/datasets/{body['id']}"), 409, "dataset_in_use")


def test_a_full_queue_keeps_the_upload_and_says_so(serve: Serve) -> None:
    client = serve(max_queued_jobs=1)
    client.post("/jobs/generate", json={"n": 1})
    response = upload(client, data={"normalise": "studio"})
    assert response.status_code == 201
    preparation = response.json()["preparation"]
    assert preparation["job"] is None
    assert "POST /jobs/prepare" in preparation["refused"]
    stored = client.get(response.headers["location"]).json()
    assert (stored["normalise"], stored["preparation"]) == ("studio", None)


def test_a_prepared_data_set_shows_what_its_photos_show(
    client: TestClient, storage: Storage, dataset_id: str
) -> None:
    path = f"/datasets/{dataset_id}"
    before = client.get(f"{path}/preview").content
    assert_problem(client.get(f"{path}/attributes"), 409, "not_prepared")
    store = CutoutStore(storage, dataset_id)
    store.add(io.BytesIO(b""), PHOTOS, b"a sheet")

    summary = client.get(path).json()["preparation"]["summary"]
    assert (summary["photos"], summary["doubtful"]) == (5, 1)
    assert summary["first_doubtful"][0]["file"] == PHOTOS[1].file
    assert summary["colors"] == {"dress": {"red": 5}}
    assert client.get(f"{path}/preview").content == b"a sheet" != before
    assert Image.open(io.BytesIO(before)).format == "PNG"


def test_attributes_come_in_pages_or_as_csv(
    client: TestClient, storage: Storage, dataset_id: str
) -> None:
    CutoutStore(storage, dataset_id).add(io.BytesIO(b""), PHOTOS, b"")
    path = f"/datasets/{dataset_id}/attributes"
    first = client.get(path, params={"limit": 3}).json()
    assert first["has_more"] is True
    rest = client.get(path, params={"after": first["last_id"]}).json()
    assert rest["has_more"] is False
    found = first["data"] + rest["data"]
    assert [each["file"] for each in found] == [each.file for each in PHOTOS]
    assert found[1]["doubts"] == ["the product's outline is unclear"]
    assert (found[0]["lab"], found[0]["color"]) == ([40.0, 60.5, 30.0], "red")

    answer = client.get(path, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["file"], row["color"], row["lab_l"]) for row in rows] == [
        (each.file, "red", "40.0") for each in PHOTOS
    ]
    assert_problem(client.get(path, headers={"Accept": "image/png"}), 406, "not_acceptable")
    assert_problem(client.get(path, params={"after": "../x"}), 422, "invalid_request")
    absent = client.get("/datasets/ds_00000000000000000000/attributes")
    assert_problem(absent, 404, "dataset_not_found")


def test_a_preparation_is_a_job_like_others(client: TestClient, dataset_id: str) -> None:
    response = client.post("/jobs/prepare", json={"dataset": dataset_id})
    assert response.status_code == 202
    job = client.get(response.headers["location"]).json()
    assert (job["type"], job["queue_position"]) == ("prepare", 0)
    absent = {"dataset": "ds_00000000000000000000"}
    assert_problem(client.post("/jobs/prepare", json=absent), 404, "dataset_not_found")
    misspelt = {"dataset": dataset_id, "normalise": "studio"}
    assert_problem(client.post("/jobs/prepare", json=misspelt), 422, "invalid_request")


@pytest.mark.parametrize("kind", ["train", "nas"])
def test_a_background_is_for_studio_photos_alone(
    client: TestClient, dataset_id: str, kind: str
) -> None:
    job = {"dataset": dataset_id, "model": "m", "background": "#F0F0F0"}
    body = assert_problem(client.post(f"/jobs/{kind}", json=job), 422, "invalid_request")
    assert body["detail"].startswith("background: ")
    job |= {"normalise": "studio"}
    assert client.post(f"/jobs/{kind}", json=job).status_code == 202
    for wrong in ({"background": "white"}, {"normalise": "clean"}):
        assert_problem(client.post(f"/jobs/{kind}", json=job | wrong), 422, "invalid_request")
