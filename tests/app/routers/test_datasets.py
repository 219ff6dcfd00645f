"""Data sets: uploaded, reported on, listed."""

from io import BytesIO

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.app.problems import assert_problem
from tests.models.pictures import noise, saved, zipped
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


@pytest.mark.parametrize(
    ("files", "fields", "says"),
    [(2, 1, "number of files is 1"), (1, 9, "number of fields is 8"), (0, 9, "fields is 8")],
)
def test_a_form_holds_one_file_and_a_few_fields(
    client: TestClient, files: int, fields: int, says: str
) -> None:
    parts = [("file", SAMPLE_ARCHIVE.read_bytes())] * files
    parts += [(f"field{number}", b"x") for number in range(fields)]
    form = [(name, (name if name == "file" else None, content)) for name, content in parts]
    body = assert_problem(client.post("/datasets", files=form), 400, "bad_request")
    assert says in body["detail"]


def test_a_field_of_a_form_is_small(client: TestClient) -> None:
    form = [("file", ("a", SAMPLE_ARCHIVE.read_bytes())), ("other", (None, b"x" * 5000))]
    body = assert_problem(client.post("/datasets", files=form), 400, "bad_request")
    assert "maximum size of 4KB" in body["detail"]


def test_photos_of_a_phone_and_a_mac_are_taken_in_with_warnings(client: TestClient) -> None:
    """HEIC in folders two deep, in names that macOS decomposes, beside an empty one."""
    photos = {f"{n}.heic": saved(noise(n), "heif") for n in range(8)}
    members = {f"export/shop/Ta\u0308sche/{name}": data for name, data in photos.items()}
    members |= {f"export/shop/hat/{n}.avif": saved(noise(n + 9), "avif") for n in range(3)}
    content = zipped({**members, "export/shop/scarf/": b"", "export/shop/hat/a.txt": b"x"})
    response = client.post("/datasets", files={"file": content}, data={"name": "Ta\u0308sche"})
    body = response.json()
    assert response.status_code == 201, body
    assert (body["name"], body["categories"]) == ("T\u00e4sche", ["T\u00e4sche", "hat"])
    assert (body["images"], body["report"]["skipped_counts"]) == (11, {"not_an_image": 1})
    assert body["report"]["warnings"][0] == "Empty folders: 'export/shop/scarf'."
