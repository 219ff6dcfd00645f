"""Data sets: uploaded, reported on, listed."""

from io import BytesIO

from fastapi.testclient import TestClient
from PIL import Image

from tests.app.problems import assert_problem
from worker.registry.bundled_models import SAMPLE_ARCHIVE

UNKNOWN = "ds_00000000000000000000"


def test_an_upload_is_answered_with_its_report(client: TestClient) -> None:
    files = {"file": ("../../etc/passwd", SAMPLE_ARCHIVE.read_bytes(), "application/zip")}
    response = client.post("/datasets", files=files, data={"name": "Été 夏 👗"})
    body = response.json()

    assert response.status_code == 201
    assert response.headers["location"] == f"/datasets/{body['id']}"
    assert body["name"] == "Été 夏 👗"
    assert body["categories"] == ["dress", "hat", "pants", "shoes"]
    report = body["report"]
    assert body["images"] == sum(category["images"] for category in report["categories"]) > 40
    assert {"skipped", "skipped_counts", "smallest_side", "imbalance", "warnings"} <= set(report)
    assert client.get(response.headers["location"]).json() == body


def test_a_data_set_has_a_preview(client: TestClient, dataset_id: str) -> None:
    response = client.get(f"/datasets/{dataset_id}/preview")
    assert response.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(response.content)).width > 600


def test_data_sets_are_listed_newest_first_in_pages(client: TestClient, dataset_id: str) -> None:
    files = {"file": SAMPLE_ARCHIVE.read_bytes()}
    newer = client.post("/datasets", files=files).json()["id"]
    first = client.get("/datasets", params={"limit": 1}).json()
    assert ([item["id"] for item in first["data"]], first["has_more"]) == ([newer], True)
    rest = client.get("/datasets", params={"after": first["last_id"]}).json()
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == ([dataset_id], False)


def test_a_refused_upload_leaves_nothing(client: TestClient) -> None:
    assert_problem(client.post("/datasets", files={"file": b"no zip"}), 422, "not_a_zip")
    assert client.get("/datasets").json()["data"] == []


def test_an_unknown_data_set_is_404(client: TestClient) -> None:
    for path in (f"/datasets/{UNKNOWN}", f"/datasets/{UNKNOWN}/preview"):
        assert_problem(client.get(path), 404, "dataset_not_found")


def test_an_upload_that_is_sent_twice_with_a_key_makes_one_data_set(client: TestClient) -> None:
    files = {"file": SAMPLE_ARCHIVE.read_bytes()}
    key = {"Idempotency-Key": "upload-1"}
    first, again = (client.post("/datasets", files=files, headers=key) for _ in range(2))
    assert first.status_code == 201
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert len(client.get("/datasets").json()["data"]) == 1
    renamed = client.post("/datasets", files=files, data={"name": "other"}, headers=key)
    assert_problem(renamed, 422, "idempotency_key_reused")
