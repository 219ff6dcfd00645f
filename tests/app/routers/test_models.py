"""Models: lists, cards, files and aliases."""

from io import BytesIO
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from app.generation.engine_cache import EngineCache
from models.checkpoint import load_model
from models.classification.photo_classifier import load_photo_classifier
from tests.app.conftest import CATEGORIES
from tests.app.problems import assert_problem
from worker.queue.queue import JobQueue
from worker.registry.model_versions import NewVersion
from worker.registry.registry import ModelNotFound, Registry
from worker.schemas.jobs import JobRecord

MODEL = "/models/fashion-mnist"


@pytest.fixture
def second(registry: Registry, tiny_version: NewVersion) -> int:
    """The number of another version of the tiny model."""
    return another(registry, tiny_version, 0)


def another(registry: Registry, tiny_version: NewVersion, number: int) -> int:
    """Register the tiny model as if job `number` had made it; returns the version."""
    again = NewVersion(**{**vars(tiny_version), "origin": f"job_{number:020d}"})
    return registry.register(again).version


def test_models_are_listed_by_name_in_pages(
    client: TestClient, registry: Registry, tiny_version: NewVersion
) -> None:
    for name in ("shoes", "bags"):
        registry.register(NewVersion(**{**vars(tiny_version), "name": name}))
    names, after = [], None
    for _ in range(3):
        page = client.get("/models", params={"limit": 1} | ({"after": after} if after else {}))
        names += [model["name"] for model in page.json()["data"]]
        after = page.json()["last_id"]
    assert names == ["bags", "fashion-mnist", "shoes"]
    assert page.json()["has_more"] is False


def test_a_model_shows_its_versions_and_aliases(client: TestClient, second: int) -> None:
    body = client.get(MODEL).json()
    assert body["aliases"] == {"production": 1}
    assert [version["version"] for version in body["versions"]] == [1, second]
    assert body["versions"][0]["capabilities"]["resolution"] == 32
    assert body["versions"][0]["categories"] == list(CATEGORIES)


def test_a_version_has_a_card_a_sheet_and_weights(
    client: TestClient, tiny_version: NewVersion
) -> None:
    card = client.get(f"{MODEL}/versions/1").json()
    assert (card["name"], card["version"], card["origin"]) == ("fashion-mnist", 1, "shipped")
    assert {"architecture", "training", "data", "metrics"} <= set(card)

    sheet = client.get(f"{MODEL}/versions/1/samples")
    assert sheet.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(sheet.content)).width > 10 * 64

    weights = client.get(f"{MODEL}/versions/1/weights")
    assert weights.content == tiny_version.weights
    assert 'filename="fashion-mnist-1.safetensors"' in weights.headers["content-disposition"]
    assert load_model(weights.content).categories == CATEGORIES


def test_a_version_has_the_files_that_its_card_names(client: TestClient) -> None:
    files = client.get(f"{MODEL}/versions/1").json()["files"]
    assert files == ["classifier.safetensors", "neighbours.png"]
    sheet, classifier = (client.get(f"{MODEL}/versions/1/files/{name}") for name in files[::-1])
    assert (sheet.content, sheet.headers["content-type"]) == (b"a sheet", "image/png")
    assert classifier.headers["content-type"] == "application/octet-stream"
    assert load_photo_classifier(classifier.content).categories == CATEGORIES


def test_an_alias_decides_what_the_name_means(client: TestClient, second: int) -> None:
    def served() -> int:
        response = client.post("/generate", json={"model": "fashion-mnist"})
        return int(response.json()["model_version"])

    assert served() == 1
    response = client.put(f"{MODEL}/aliases/production", json={"version": second})
    assert response.status_code == 200
    assert (response.json()["alias"], response.json()["version"]) == ("production", second)
    assert served() == second
    client.put(f"{MODEL}/aliases/production", json={"version": 1})
    assert served() == 1


def test_a_new_alias_is_made_by_pointing_it(client: TestClient, second: int) -> None:
    reference = {"model": "fashion-mnist@staging"}
    assert_problem(client.post("/generate", json=reference), 404, "model_not_found")
    client.put(f"{MODEL}/aliases/staging", json={"version": second})
    assert client.post("/generate", json=reference).json()["model_version"] == second


@pytest.mark.parametrize(
    "path",
    [
        "/models/none",
        "/models/none/versions/1",
        *(f"{MODEL}/versions/9{rest}" for rest in ("", "/samples", "/weights")),
        f"{MODEL}/versions/1/files/curves.png",
    ],
)
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    assert_problem(client.get(path), 404, "model_not_found")


@pytest.mark.parametrize(("name", "version"), [("none", 1), ("fashion-mnist", 9)])
def test_an_alias_points_at_nothing_that_is_not_there(
    client: TestClient, name: str, version: int
) -> None:
    response = client.put(f"/models/{name}/aliases/production", json={"version": version})
    assert_problem(response, 404, "model_not_found")
    assert client.get(MODEL).json()["aliases"] == {"production": 1}


def point(client: TestClient, version: int) -> None:
    answer = client.put(f"{MODEL}/aliases/production", json={"version": version})
    assert answer.status_code == 200


def roll_back(client: TestClient) -> int:
    answer = client.post(f"{MODEL}/aliases/production/rollback")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["version"])


@pytest.fixture
def third(registry: Registry, tiny_version: NewVersion) -> int:
    return another(registry, tiny_version, 1)


def test_rollbacks_go_back_one_by_one_and_are_remembered(
    client: TestClient, second: int, third: int
) -> None:
    for version in (second, third):
        point(client, version)
    assert [roll_back(client), roll_back(client)] == [second, 1]
    answer = client.post(f"{MODEL}/aliases/production/rollback")
    assert_problem(answer, 409, "nothing_to_roll_back")
    point(client, third)
    assert roll_back(client) == 1

    seen: list[tuple[int, bool]] = []
    after: dict[str, str] = {}
    while True:
        page = client.get(f"{MODEL}/aliases/production/history", params={"limit": 3, **after})
        seen += [(each["version"], each["is_rollback"]) for each in page.json()["data"]]
        if not page.json()["has_more"]:
            break
        after = {"after": page.json()["last_id"]}
    assert seen == [
        (1, True), (third, False), (1, True), (second, True), (third, False), (second, False),
        (1, False),
    ]  # fmt: skip


def test_a_rollback_passes_over_what_was_deleted(
    client: TestClient, second: int, third: int
) -> None:
    for version in (second, third):
        point(client, version)
    assert client.delete(f"{MODEL}/versions/{second}").status_code == 204
    assert roll_back(client) == 1


def test_a_version_in_use_is_not_deleted_and_a_number_is_not_given_twice(
    client: TestClient, registry: Registry, tiny_version: NewVersion, second: int
) -> None:
    assert_problem(client.delete(f"{MODEL}/versions/1"), 409, "version_in_use")
    assert client.delete(f"{MODEL}/versions/{second}").status_code == 204
    assert_problem(client.get(f"{MODEL}/versions/{second}"), 404, "model_not_found")
    assert_problem(client.delete(f"{MODEL}/versions/{second}"), 404, "model_not_found")
    # Both had the same weights, which the first one still needs.
    assert client.get(f"{MODEL}/versions/1/weights").content == tiny_version.weights
    assert another(registry, tiny_version, 2) == second + 1


def test_a_deleted_model_is_gone_with_its_weights(
    client: TestClient, registry: Registry, tiny_version: NewVersion
) -> None:
    registry.register(NewVersion(**{**vars(tiny_version), "name": "shoes"}))
    assert client.delete("/models/shoes/versions/1").status_code == 204
    assert_problem(client.get("/models/shoes"), 404, "model_not_found")
    assert [model["name"] for model in client.get("/models").json()["data"]] == ["fashion-mnist"]
    left = [key for key in registry.storage.keys("models/shoes") if "/deletions/" not in key]
    assert left == ["models/shoes/versions/1/deleted.json"]


SYNONYMS = {"dress": ["Dirndl", "robe  d'été"], "Bag": ["sac à malice"]}


def understood(client: TestClient, prompt: str) -> str | None:
    """The category that `/v1` understands, None if it understands none."""
    answer = client.post("/v1/images/generations", json={"prompt": prompt})
    if answer.status_code != 200:
        assert answer.json()["error"]["code"] == "unknown_category"
        return None
    return str(answer.json()["data"][0]["revised_prompt"])


def test_synonyms_are_shown_and_name_a_category_to_every_version(
    client: TestClient, second: int
) -> None:
    assert client.get(MODEL).json()["synonyms"] == {}
    assert understood(client, "ein Dirndl") is None
    answer = client.put(f"{MODEL}/synonyms", json=SYNONYMS)
    assert answer.status_code == 200
    kept = {"Dress": ["Dirndl", "robe d'été"], "Bag": ["sac à malice"]}
    assert answer.json() == client.get(MODEL).json()["synonyms"] == kept
    assert understood(client, "ein DIRNDL") == "Dress"
    point(client, second)
    assert understood(client, "un sac a malice") == "Bag"
    assert client.put(f"{MODEL}/synonyms", json={}).json() == {}
    assert understood(client, "ein Dirndl") is None


@pytest.mark.parametrize(
    ("synonyms", "code"),
    [
        ({"Hat": ["cap"]}, "unknown_category"),
        ({"Dress": ["bag"]}, "ambiguous_synonym"),
        ({"Dress": ["gown"], "Bag": ["Gown"]}, "ambiguous_synonym"),
        ({"Dress": ["a" * 61]}, "invalid_request"),
        ({"Dress": [f"gown {number}" for number in range(51)]}, "invalid_request"),
        ({"Dress": ["..."]}, "invalid_request"),
        ({"Dress": "gown"}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_synonyms_that_are_none_are_refused(
    client: TestClient, synonyms: object, code: str
) -> None:
    assert_problem(client.put(f"{MODEL}/synonyms", json=synonyms), 422, code)
    assert client.get(MODEL).json()["synonyms"] == {}


def test_a_model_that_is_not_there_has_no_synonyms(client: TestClient) -> None:
    assert_problem(client.put("/models/none/synonyms", json={}), 404, "model_not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "history"), ("POST", "rollback")])
def test_an_alias_that_is_none_has_no_history(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"{MODEL}/aliases/none/{path}")
    assert_problem(answer, 404, "model_not_found")


@pytest.fixture
def shoes(registry: Registry, tiny_version: NewVersion) -> str:
    """The path of a second model, with `production` and without any use."""
    registry.register(NewVersion(**{**vars(tiny_version), "name": "shoes"}))
    registry.point("shoes", "production", 1)
    return "/models/shoes"


def test_a_deleted_alias_is_404_until_a_rollback_sets_it_again(
    client: TestClient, shoes: str
) -> None:
    reference = {"model": "shoes@production"}
    assert client.post("/generate", json=reference).status_code == 200
    assert client.delete(f"{shoes}/aliases/production").status_code == 204
    assert_problem(client.post("/generate", json=reference), 404, "model_not_found")
    assert_problem(client.delete(f"{shoes}/aliases/production"), 404, "model_not_found")
    assert client.get(shoes).json()["aliases"] == {}
    history = client.get(f"{shoes}/aliases/production/history").json()["data"]
    assert [change["version"] for change in history] == [None, 1]
    assert client.post(f"{shoes}/aliases/production/rollback").json()["version"] == 1
    assert client.post("/generate", json=reference).status_code == 200


def test_a_deleted_model_is_404_on_all_its_routes_and_leaves_memory(
    client: TestClient, shoes: str
) -> None:
    assert client.post("/generate", json={"model": "shoes"}).status_code == 200
    assert ("shoes", 1) in engines_of(client)._warm
    assert client.delete(shoes).status_code == 204
    assert [name for name, _ in engines_of(client)._warm] == ["fashion-mnist"]
    for path in ("", "/versions/1", "/versions/1/weights", "/aliases/production/history"):
        assert_problem(client.get(shoes + path), 404, "model_not_found")
    assert_problem(client.post("/generate", json={"model": "shoes"}), 404, "model_not_found")
    assert_problem(client.delete(shoes), 404, "model_not_found")
    for listed in (client.get("/models"), client.get("/v1/models")):
        assert len(listed.json()["data"]) == 1


def test_the_default_model_and_one_that_a_job_needs_are_not_deleted(
    client: TestClient, shoes: str, dataset_id: str
) -> None:
    body = assert_problem(client.delete(MODEL), 409, "model_in_use")
    assert "VITRINE_DEFAULT_MODEL" in body["detail"]
    train = {"dataset": dataset_id, "model": "shoes", "batch_size": 8}
    for path, job in (("train", train), ("generate", {"model": "shoes", "n": 1})):
        made = client.post(f"/jobs/{path}", json=job).json()["id"]
        body = assert_problem(client.delete(shoes), 409, "model_in_use")
        assert made in body["detail"]
        client.post(f"/jobs/{made}/cancel")
    assert client.delete(shoes).status_code == 204


def test_a_version_that_another_process_has_deleted_is_not_found_and_leaves_memory(
    client: TestClient, registry: Registry, shoes: str
) -> None:
    card = registry.card("shoes", 1)
    assert client.post("/generate", json={"model": "shoes"}).status_code == 200
    registry.delete_model(shoes.removeprefix("/models/"))
    engines = engines_of(client)
    engines.forget_deleted()
    assert engines.find(card) is None
    with pytest.raises(ModelNotFound):  # and not: its weights are damaged
        engines.open(card)
    assert engines._bad == {}


def test_a_job_whose_model_is_deleted_as_it_is_submitted_is_refused(
    client: TestClient, registry: Registry, shoes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = JobQueue.submit

    def late(queue: JobQueue, *arguments: Any) -> JobRecord:
        registry.delete_model(shoes.removeprefix("/models/"))
        return submit(queue, *arguments)

    monkeypatch.setattr(JobQueue, "submit", late)
    answer = client.post("/jobs/generate", json={"model": "shoes", "n": 1})
    assert_problem(answer, 404, "model_not_found")
    assert [job["status"] for job in client.get("/jobs").json()["data"]] == ["cancelled"]


def engines_of(client: TestClient) -> EngineCache:
    assert isinstance(client.app, FastAPI)
    engines: EngineCache = client.app.state.services.sampler.engines
    return engines
