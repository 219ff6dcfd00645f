"""Promotion gate: it refuses what has collapsed, lacks categories or is worse, and says why."""

from dataclasses import replace
from itertools import count

import pytest
import torch

from models.checkpoint import save_model
from models.data.datasets import Dataset
from models.data.split import split
from models.evaluation.extractors import report_extractors
from models.evaluation.feature_extractor import fit_extractor
from models.evaluation.panel import Panel
from models.evaluation.panel_report import PanelJudge, PanelReport, open_judge
from models.networks.gan import GanConfig, Generator
from models.progress import run
from worker.registry.model_versions import ModelCard, NewVersion, weights_key
from worker.registry.registry import Registry
from worker.storage import Storage
from worker.training.promotion import refusal

CATEGORIES = ("left", "right")
numbers = count()


@pytest.fixture(scope="module")
def judge() -> PanelJudge:
    """The panel with grey images of a bright left or right half."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (240, 1, 28, 28), generator=random)
    images[::2, ..., :14] += 180
    images[1::2, ..., 14:] += 180
    dataset = Dataset(
        images=images.to(torch.uint8), labels=torch.arange(240) % 2, categories=CATEGORIES
    )
    training, held_out = split(dataset)
    assert held_out is not None
    cnn = run(fit_extractor(training, len(held_out.labels)))
    return run(open_judge(Panel(report_extractors(cnn)), training, held_out))


@pytest.fixture
def registry(storage: Storage) -> Registry:
    return Registry(storage)


def generator_of(categories: int = 2, *, collapsed: bool = False) -> Generator:
    """An untrained generator, which shows the same image whatever z is if it has collapsed."""
    torch.manual_seed(1)
    config = GanConfig(resolution=28, categories=categories, z_dim=8, generator_width=4)
    generator = Generator(config).eval()
    weights = torch.nn.init.zeros_ if collapsed else torch.nn.init.normal_
    weights(generator.stem.weight)
    torch.nn.init.normal_(generator.get_parameter("to_image.weight"), std=3)
    return generator


def registered(
    registry: Registry, generator: Generator, categories: tuple[str, ...] = CATEGORIES
) -> ModelCard:
    """A version of the model `halves`."""
    return registry.register(
        NewVersion(
            name="halves",
            weights=save_model(generator, categories),
            samples_png=b"",
            origin=f"job_{next(numbers)}",
            card={
                "categories": list(categories),
                "capabilities": {"resolution": 28, "channels": 1},
                "architecture": {},
                "training": {},
                "data": {},
                "metrics": {},
            },
        )
    )


def report_of(judge: PanelJudge, generator: Generator) -> PanelReport:
    return run(judge.judge(generator))


def test_a_first_version_may_take_a_new_alias(registry: Registry, judge: PanelJudge) -> None:
    new, report = registered(registry, generator_of()), report_of(judge, generator_of())
    assert report.aspects["variety"] > 10, report.scores
    assert run(refusal(registry, new, "production", judge, report)) is None


def test_a_collapsed_version_is_refused(registry: Registry, judge: PanelJudge) -> None:
    collapsed = generator_of(collapsed=True)
    new, report = registered(registry, collapsed), report_of(judge, collapsed)
    reason = run(refusal(registry, new, "production", judge, report))
    assert reason is not None
    assert reason.startswith("it has collapsed")


def test_a_worse_version_is_refused_and_an_equal_one_is_not(
    registry: Registry, judge: PanelJudge
) -> None:
    present = registered(registry, generator_of())
    registry.point("halves", "production", present.version)
    new, equal = registered(registry, generator_of()), report_of(judge, generator_of())
    assert run(refusal(registry, new, "production", judge, equal)) is None
    worse = replace(equal, score=equal.score - 10)
    reason = run(refusal(registry, new, "production", judge, worse))
    assert reason is not None
    assert f"worse than version {present.version}" in reason
    assert f"scores {equal.score:.0f} of 100" in reason


def test_a_version_that_lacks_categories_is_refused(registry: Registry, judge: PanelJudge) -> None:
    present = registered(registry, generator_of(3), (*CATEGORIES, "middle"))
    registry.point("halves", "production", present.version)
    new, report = registered(registry, generator_of()), report_of(judge, generator_of())
    reason = run(refusal(registry, new, "production", judge, report))
    assert reason == f"it lacks categories that version {present.version} serves: middle"


def test_categories_are_compared_by_name(registry: Registry, judge: PanelJudge) -> None:
    swapped = generator_of()
    with torch.no_grad():
        swapped.embedding.weight.copy_(swapped.embedding.weight.flip(0))
    present = registered(registry, swapped, ("right", "left"))  # shows the same images by name
    registry.point("halves", "production", present.version)
    new, report = registered(registry, generator_of()), report_of(judge, generator_of())
    reason = run(
        refusal(registry, new, "production", judge, replace(report, score=report.score - 10))
    )
    assert reason is not None
    assert f"scores {report.score:.0f} of 100" in reason


def test_what_cannot_be_judged_is_not_promoted(registry: Registry) -> None:
    new = registered(registry, generator_of())
    reason = run(refusal(registry, new, "production", None, None))
    assert reason is not None
    assert "promote_force" in reason


def test_a_present_version_with_damaged_weights_is_replaced(
    registry: Registry, storage: Storage, judge: PanelJudge
) -> None:
    present = registered(registry, generator_of())
    registry.point("halves", "production", present.version)
    new, report = (
        registered(registry, generator_of(3), (*CATEGORIES, "x")),
        report_of(judge, generator_of()),
    )
    storage.put(weights_key("halves", present.weights_sha256), b"damaged")
    assert run(refusal(registry, new, "production", judge, replace(report, score=0.0))) is None


def test_a_damaged_alias_hinders_no_promotion(
    registry: Registry, storage: Storage, judge: PanelJudge
) -> None:
    new, report = registered(registry, generator_of()), report_of(judge, generator_of())
    storage.put("models/halves/aliases/production/00000001.json", b"")
    assert run(refusal(registry, new, "production", judge, report)) is None
