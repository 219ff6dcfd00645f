"""POST /generate: what comes back, and that it depends on the seed alone."""

import base64
import hashlib
from collections import Counter
from io import BytesIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.app.problems import assert_problem

SNEAKERS = {"category": "Sneaker", "n": 8, "seed": 7, "output_format": "webp"}
ITEM_FIELDS = {"index", "seed", "category", "b64_json", "url", "sha256", "width", "height"}
SOURCE_TYPE = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def generate(client: TestClient, **body: object) -> list[dict[str, Any]]:
    response = client.post("/generate", json=body)
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


def contents(client: TestClient, **body: object) -> list[bytes]:
    return [base64.b64decode(item["b64_json"]) for item in generate(client, **body)]


def test_an_empty_request_gets_one_image_of_the_default_model(client: TestClient) -> None:
    response = client.post("/generate", json={})
    body = response.json()

    assert response.status_code == 200
    assert set(body) == {"id", "model", "model_version", "data", "timing", "metadata"}
    assert body["id"].startswith("gen_")
    assert (body["model"], body["model_version"]) == ("fashion-mnist", 1)
    assert set(body["timing"]) == {"queue_ms", "compute_ms", "encode_ms"}
    (item,) = body["data"]
    assert set(item) == ITEM_FIELDS
    assert (item["index"], item["url"], item["width"], item["height"]) == (0, None, 32, 32)
    assert Image.open(BytesIO(base64.b64decode(item["b64_json"]))).format == "PNG"


def test_eight_sneakers_are_the_same_webp_files_each_time(client: TestClient) -> None:
    first = contents(client, **SNEAKERS)
    assert len(set(first)) == 8
    for content in first:
        image = Image.open(BytesIO(content))
        image.load()
        assert (image.format, image.size) == ("WEBP", (32, 32))
    assert contents(client, **SNEAKERS) == first


def test_image_i_is_the_one_of_seed_plus_i(client: TestClient) -> None:
    many = generate(client, **SNEAKERS)
    assert [item["seed"] for item in many] == list(range(7, 15))
    alone = generate(client, **{**SNEAKERS, "n": 1, "seed": 12})
    assert alone[0]["b64_json"] == many[5]["b64_json"]


def test_categories_are_drawn_evenly_and_by_seed(client: TestClient) -> None:
    drawn = [item["category"] for item in generate(client, n=20, seed=3)]
    assert set(Counter(drawn).values()) == {2}
    assert len(set(drawn)) == 10
    assert generate(client, seed=8)[0]["category"] == drawn[5]


@pytest.mark.parametrize("category", ["sneaker", "SNEAKER", "Snéaker", "Ｓｎｅａｋｅｒ"])
def test_a_category_is_named_in_any_case_and_with_any_accents(
    client: TestClient, category: str
) -> None:
    (item,) = generate(client, category=category, seed=7)
    assert item == generate(client, category="Sneaker", seed=7)[0]


def test_the_digest_is_that_of_the_file(client: TestClient) -> None:
    for item in generate(client, n=2):
        content = base64.b64decode(item["b64_json"])
        assert item["sha256"] == hashlib.sha256(content).hexdigest()


def test_fresh_seeds_differ_and_are_returned(client: TestClient) -> None:
    first, second = generate(client)[0], generate(client, seed=None)[0]
    assert first["seed"] != second["seed"]
    assert generate(client, seed=first["seed"])[0]["sha256"] == first["sha256"]


def test_size_scales_the_image(client: TestClient) -> None:
    (item,) = generate(client, seed=1, size="128x128")
    assert (item["width"], item["height"]) == (128, 128)
    assert Image.open(BytesIO(base64.b64decode(item["b64_json"]))).size == (128, 128)


@pytest.mark.parametrize(
    "change",
    [
        {"enhance": {"brightness": 0.5}},
        {"enhance": {"contrast": 2}},
        {"enhance": {"sharpness": 3.0}},
        {"truncation": 0.5},
        {"category": "Bag"},
        {"seed": 2},
        {"output_format": "webp", "output_compression": 0},
    ],
    ids=str,
)
def test_a_parameter_changes_the_image(client: TestClient, change: dict[str, object]) -> None:
    plain: dict[str, object] = {"category": "Sneaker", "seed": 1}
    if "output_format" in change:
        plain["output_format"] = change["output_format"]
    assert contents(client, **plain | change) != contents(client, **plain)


def test_no_enhancement_leaves_the_image_as_it_is(client: TestClient) -> None:
    neutral = {"sharpness": 1.0, "contrast": 1.0, "color": 1.0, "brightness": 1.0}
    assert contents(client, seed=1, enhance=neutral) == contents(client, seed=1)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "avif"])
def test_every_format_decodes_and_says_what_made_it(client: TestClient, name: str) -> None:
    (content,) = contents(client, seed=41, output_format=name)
    image = Image.open(BytesIO(content))
    image.load()
    assert image.format == name.upper()
    assert SOURCE_TYPE in content
    for field in (b"model>fashion-mnist<", b"version>1<", b"seed>41<"):
        assert field in content


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "avif"])
def test_accept_asks_for_the_image_itself(client: TestClient, name: str) -> None:
    wanted = {"seed": 4, "category": "Bag"}
    accept = {"Accept": f"image/{name}"}
    response = client.post("/generate", json=wanted, headers=accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"image/{name}"
    assert response.content == contents(client, output_format=name, **wanted)[0]


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("image/png", {"n": 2}),
        ("image/png", {"output_format": "webp"}),
        ("text/html", {}),
        ("image/gif", {}),
    ],
)
def test_an_accept_that_cannot_be_met_is_refused(
    client: TestClient, accept: str, body: dict[str, object]
) -> None:
    response = client.post("/generate", json=body, headers={"Accept": accept})
    assert_problem(response, 406, "not_acceptable")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png, application/json", ""])
def test_json_is_the_answer_to_whoever_takes_it(client: TestClient, accept: str) -> None:
    response = client.post("/generate", json={}, headers={"Accept": accept})
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "reference", ["fashion-mnist", "fashion-mnist@production", "fashion-mnist:1"]
)
def test_a_model_is_named_in_three_ways(client: TestClient, reference: str) -> None:
    response = client.post("/generate", json={"model": reference, "metadata": {"sku": "A-1"}})
    assert response.json()["model_version"] == 1
    assert response.json()["metadata"] == {"sku": "A-1"}
