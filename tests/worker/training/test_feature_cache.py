"""Cache of the photos' features: a network looks at each photo once."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from models.evaluation.extractors import Extractor, Seen, report_extractors
from models.progress import run
from worker.storage import Storage
from worker.training.feature_cache import FeatureCache


@dataclass
class Counting:
    """A network that records how many images it looks at."""

    network: Extractor
    looks: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def identity(self) -> str:
        return self.network.identity

    def see(self, images: Tensor) -> Seen:
        self.looks.append(len(images))
        return self.network.see(images)


@pytest.fixture
def saliency() -> Counting:
    return Counting(report_extractors()[1])  # has features and masks


def photos(count: int, seed: int = 0, side: int = 20) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=random, dtype=torch.uint8)


def assert_equal(one: Seen, other: Seen) -> None:
    torch.testing.assert_close(one.features, other.features)
    assert one.masks is not None
    assert other.masks is not None
    assert one.masks.equal(other.masks)


def test_photos_that_are_known_are_not_looked_at_again(
    storage: Storage, saliency: Counting
) -> None:
    images = photos(6)
    direct = saliency.network.see(images)
    assert_equal(run(FeatureCache(storage, "ds_a").see(saliency, images[:4])), direct_of(direct, 4))
    mixed = torch.cat([images[[5, 2]], images[[5, 0]]])  # one new photo, twice
    again = run(FeatureCache(storage, "ds_a").see(saliency, mixed))
    assert saliency.looks == [4, 1]
    rows = torch.tensor([5, 2, 5, 0])
    assert direct.masks is not None
    assert_equal(again, Seen(direct.features[rows], direct.masks[rows]))


def direct_of(seen: Seen, count: int) -> Seen:
    return Seen(seen.features[:count], None if seen.masks is None else seen.masks[:count])


@pytest.mark.parametrize(
    "other",
    [
        lambda cache, network: cache.see(network, photos(2, side=24)),
        lambda cache, _: cache.see(Counting(report_extractors()[0]), photos(2)),
    ],
    ids=["resolution", "network"],
)
def test_features_are_kept_apart_by_resolution_and_network(
    storage: Storage,
    saliency: Counting,
    other: Callable[[FeatureCache, Counting], object],
) -> None:
    cache = FeatureCache(storage, "ds_a")
    run(cache.see(saliency, photos(2)))
    run(other(cache, saliency))  # type: ignore[arg-type] # Steps
    assert len(list(storage.keys("datasets/ds_a/features"))) == 2


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"cut"])
def test_a_damaged_file_is_replaced(storage: Storage, saliency: Counting, damage: bytes) -> None:
    run(FeatureCache(storage, "ds_a").see(saliency, photos(2)))
    (key,) = storage.keys("datasets/ds_a/features")
    whole = storage.read(key)
    storage.put(key, whole[:500] if damage == b"cut" else damage)
    run(FeatureCache(storage, "ds_a").see(saliency, photos(2)))
    assert saliency.looks == [2, 2]
    assert storage.read(key) == whole
