"""The cache of classifiers: each is read once, and their number is bounded."""

from dataclasses import replace

import pytest

from app.classification.classifier_cache import ClassifierCache
from models.classification.photo_classifier import CLASSIFIER_FILE
from worker.datasets.datasets import DatasetStore
from worker.registry.model_versions import NewVersion, file_key
from worker.registry.registry import Registry
from worker.storage import ObjectNotFound, Storage


def test_classifiers_are_read_once_and_the_oldest_are_dropped(
    registry: Registry,
    storage: Storage,
    tiny_version: NewVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.classification.classifier_cache.MOST_KEPT", 1)
    cache = ClassifierCache(registry, DatasetStore(storage), 1)
    first = registry.card("fashion-mnist", 1)
    second = registry.register(replace(tiny_version, name="second"))
    known = cache.of_version(first)
    storage.delete(file_key(first.name, first.weights_sha256, CLASSIFIER_FILE))
    assert cache.of_version(first) is known
    assert cache.of_version(second).categories == known.categories
    with pytest.raises(ObjectNotFound):
        cache.of_version(first)
