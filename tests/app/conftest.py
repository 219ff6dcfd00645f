"""Fixtures of the API: a real application, with a tiny model to serve."""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from models.card import sample_sheet
from models.checkpoint import save_model
from models.classification.photo_classifier import (
    CAPABILITIES,
    CLASSIFIER_FILE,
    FitReport,
    PhotoClassifier,
    look,
    save_photo_classifier,
)
from models.evaluation.linear_probe import LinearProbe
from models.inference.sample import sample
from models.networks.efficientnet_lite import FEATURES
from models.networks.gan import GanConfig, Generator
from worker import logs
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.registry.model_versions import NewVersion
from worker.registry.registry import PRODUCTION, Registry
from worker.settings import Settings
from worker.storage import Storage

Serve = Callable[..., TestClient]

CATEGORIES = (
    *("Ankle boot", "Bag", "Coat", "Dress", "Pullover"),
    *("Sandal", "Shirt", "Sneaker", "T-shirt", "Trouser"),
)


@pytest.fixture(scope="session")
def tiny_generator() -> Generator:
    """An untrained generator, its output scaled so that its images differ well."""
    torch.manual_seed(0)
    config = GanConfig(resolution=32, channels=1, categories=10, z_dim=16, generator_width=8)
    generator = Generator(config).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(4)
    return generator


@pytest.fixture(scope="session")
def tiny_classifier(tiny_generator: Generator) -> PhotoClassifier:
    """A probe of random weights, scaled so that the generator's images differ well to it."""
    seen = look(sample(tiny_generator, range(40), [seed % 10 for seed in range(40)])).mean((2, 3))
    random = torch.Generator().manual_seed(0)
    probe = LinearProbe(
        mean=seen.mean(0),
        deviation=seen.std(0) + 0.01,
        weight=torch.randn(FEATURES, len(CATEGORIES), generator=random),
        bias=torch.zeros(len(CATEGORIES)),
        temperature=20.0,
        penalty=0.1,
    )
    report = FitReport(photos=1, resolution=32, seconds=1.0)
    return PhotoClassifier(categories=CATEGORIES, probe=probe, report=report)


@pytest.fixture(scope="session")
def tiny_version(tiny_generator: Generator, tiny_classifier: PhotoClassifier) -> NewVersion:
    """The generator with the classifier, to be registered."""
    return NewVersion(
        name="fashion-mnist",
        weights=save_model(tiny_generator, CATEGORIES),
        samples_png=sample_sheet(tiny_generator, CATEGORIES),
        origin="shipped",
        files={
            "neighbours.png": b"a sheet",
            CLASSIFIER_FILE: save_photo_classifier(tiny_classifier),
        },
        card={
            "categories": list(CATEGORIES),
            "capabilities": {
                **{"resolution": 32, "channels": 1},
                **dict.fromkeys(CAPABILITIES, True),
            },
            **{"architecture": {}, "training": {}, "data": {}, "metrics": {}},
        },
    )


@pytest.fixture
def registry(storage: Storage, tiny_version: NewVersion) -> Registry:
    """A registry with the tiny model, to which the alias `production` points."""
    registry = Registry(storage)
    card = registry.register(tiny_version)
    registry.point(card.name, PRODUCTION, card.version)
    return registry


@pytest.fixture
def serve(settings: Settings, registry: Registry) -> Iterator[Serve]:  # noqa: ARG001
    """Starts the API with changed settings; an unhandled error becomes a 500 answer."""
    with ExitStack() as stack:

        def start(**changes: object) -> TestClient:
            app = create_app(settings.model_copy(update=changes))
            client = TestClient(app, raise_server_exceptions=False)
            stack.callback(disconnect, app)
            return stack.enter_context(client)

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A client of the API with default settings."""
    return serve()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the process logs during the test, as JSON lines."""
    stream = io.StringIO()
    handler = logs.handler("json", stream)
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    yield stream
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture
def dataset_id(client: TestClient) -> str:
    """The sample data set, uploaded."""
    with SAMPLE_ARCHIVE.open("rb") as archive:
        response = client.post("/datasets", files={"file": archive}, data={"name": "sample"})
    assert response.status_code == 201
    return str(response.json()["id"])


def disconnect(app: FastAPI) -> None:
    """Close the Redis connections that `create_app` opened."""
    app.state.services.queue.leases.redis.close()
    app.state.services.queue.connection.close()
