"""`POST /classify`: what a photo shows, by the classifier of a version or of a data set."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.keys import entry
from models.classification.photo_classifier import (
    CLASSIFIER_FILE,
    PhotoClassifier,
    save_photo_classifier,
)
from models.imaging.pixels import to_pixels
from tests.app.conftest import CATEGORIES
from tests.app.problems import assert_problem
from tests.models.pictures import noise, saved
from worker.datasets.dataset_classifiers import DatasetClassifiers
from worker.registry.model_versions import NewVersion
from worker.registry.registry import Registry
from worker.storage import Storage

PHOTO = saved(noise(3, (80, 60)))

Serve = Callable[..., TestClient]


def classify(client: TestClient, photo: bytes = PHOTO, **fields: object) -> dict[str, Any]:
    """The answer to a photo."""
    response = client.post("/classify", files={"image": photo}, data=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_the_default_model_names_all_categories_likeliest_first(
    client: TestClient, tiny_classifier: PhotoClassifier
) -> None:
    body = classify(client)
    assert (body["model"], body["model_version"]) == ("fashion-mnist", 1)
    assert body["dataset"] is body["heatmap"] is None
    assert body["timing"]["compute_ms"] > 0
    found = {item["category"]: item["probability"] for item in body["data"]}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert sum(found.values()) == pytest.approx(1, abs=1e-4)
    pixels = to_pixels(Image.open(io.BytesIO(PHOTO)))
    wanted = tiny_classifier.probabilities([pixels])[0].tolist()
    assert found == pytest.approx(dict(zip(CATEGORIES, wanted, strict=True)), abs=1e-5)
    assert classify(client)["data"] == body["data"]


def test_top_k_limits_the_list(client: TestClient) -> None:
    whole = classify(client, model="fashion-mnist:1")["data"]
    assert classify(client, model="fashion-mnist@production", top_k=3)["data"] == whole[:3]
    assert classify(client, top_k=1000)["data"] == whole


def test_a_heat_map_is_a_picture_of_the_photo(client: TestClient) -> None:
    body = classify(client, heatmap="true")
    drawn = Image.open(io.BytesIO(base64.b64decode(body["heatmap"])))
    assert (drawn.format, drawn.size, drawn.mode) == ("PNG", (448, 448), "RGB")
    pixels = np.asarray(drawn).astype(int)
    assert np.abs(pixels[..., 0] - pixels[..., 2]).max() > 50  # somewhere hot
    assert body["data"] == classify(client)["data"]


@pytest.mark.parametrize("image_format", ["jpeg", "webp", "gif", "tiff", "bmp", "heif"])
def test_photos_of_all_formats_are_read(client: TestClient, image_format: str) -> None:
    assert len(classify(client, saved(noise(1), image_format))["data"]) == 10


def test_a_data_set_has_a_classifier_once_a_job_has_fitted_it(
    client: TestClient, dataset_id: str, storage: Storage, tiny_classifier: PhotoClassifier
) -> None:
    form: dict[str, Any] = {"files": {"image": PHOTO}, "data": {"dataset": dataset_id}}
    problem = assert_problem(client.post("/classify", **form), 409, "no_classifier")
    assert "training" in problem["detail"]
    names = tuple(f"c{index}" for index in range(10))
    stored = DatasetClassifiers(storage, dataset_id)
    for resolution, categories in ((32, CATEGORIES), (64, names)):
        classifier = replace(tiny_classifier, categories=categories)
        stored.store(resolution, save_photo_classifier(classifier))
    body = classify(client, dataset=dataset_id)
    assert body["dataset"] == dataset_id
    assert body["model"] is body["model_version"] is None
    assert {item["category"] for item in body["data"]} == set(names)  # of the larger images
    assert client.delete(f"/datasets/{dataset_id}").status_code == 204
    assert_problem(client.post("/classify", **form), 404, "dataset_not_found")


def test_a_version_without_a_classifier_says_how_to_get_one(
    client: TestClient, registry: Registry, tiny_version: NewVersion
) -> None:
    registry.register(replace(tiny_version, name="old", files={}))
    response = client.post("/classify", files={"image": PHOTO}, data={"model": "old"})
    assert "train it again" in assert_problem(response, 409, "no_classifier")["detail"]


def test_classifiers_that_cannot_be_used_are_told_apart(
    client: TestClient, registry: Registry, tiny_version: NewVersion
) -> None:
    good = tiny_version.files[CLASSIFIER_FILE]
    digest = b'efficientnet-lite0\\", \\"weights_sha256\\": \\"'
    at = good.index(digest) + len(digest)
    other = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    for name, data, status, code in (
        ("other", other, 409, "classifier_outdated"),
        ("damaged", good[:-4], 503, "model_unavailable"),
    ):
        registry.register(replace(tiny_version, name=name, files={CLASSIFIER_FILE: data}))
        response = client.post("/classify", files={"image": PHOTO}, data={"model": name})
        assert_problem(response, status, code)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "nope"}, 404, "model_not_found"),
        ({"model": "fashion-mnist:9"}, 404, "model_not_found"),
        ({"model": "../etc"}, 422, "invalid_model_reference"),
        ({"dataset": "ds_00000000000000000000"}, 404, "dataset_not_found"),
        ({"dataset": "../etc"}, 422, "invalid_request"),
        ({"model": "fashion-mnist", "dataset": "ds_00000000000000000000"}, 422, "invalid_request"),
        ({"top_k": "0"}, 422, "invalid_request"),
        ({"top_k": "many"}, 422, "invalid_request"),
        ({"heatmap": "maybe"}, 422, "invalid_request"),
        ({"topk": "3"}, 422, "invalid_request"),
    ],
)
def test_wrong_fields_are_refused(
    client: TestClient, fields: dict[str, str], status: int, code: str
) -> None:
    assert_problem(client.post("/classify", files={"image": PHOTO}, data=fields), status, code)


@pytest.mark.parametrize(
    "photo",
    [b"", b"no image", b"%PDF-1.7", PHOTO[:-200], b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
)
def test_files_that_are_no_photo_are_refused(client: TestClient, photo: bytes) -> None:
    response = client.post("/classify", files={"image": photo})
    assert_problem(response, 422, "invalid_image")


def test_the_form_needs_a_photo_of_a_bounded_size(serve: Serve) -> None:
    client = serve(max_image_bytes=200_000)
    assert_problem(client.post("/classify", data={"top_k": "3"}), 415, "unsupported_media_type")
    assert_problem(client.post("/classify", files={"other": PHOTO}), 422, "invalid_request")
    assert_problem(client.post("/classify", files={"image": bytes(300_000)}), 413, "body_too_large")
    assert_problem(client.post("/classify", json={}), 415, "unsupported_media_type")


def test_it_takes_the_scope_of_generation(serve: Serve) -> None:
    hashes = ",".join((entry("g", ["generate"]), entry("m", ["manage"])))
    client = serve(api_key_hashes=hashes)
    for key, status in (("g", 200), ("m", 403), ("x", 401)):
        headers = {"Authorization": f"Bearer {key}"}
        response = client.post("/classify", files={"image": PHOTO}, headers=headers)
        assert response.status_code == status


def test_a_version_tells_that_it_classifies(client: TestClient) -> None:
    (version,) = client.get("/models/fashion-mnist").json()["versions"]
    assert version["capabilities"]["classify"] is True
