"""Promotion gate: whether a new version may take over an alias, judged on the same photos."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from models.checkpoint import CheckpointError, load_model
from models.evaluation.generation import generate_steps
from models.evaluation.panel_report import PanelJudge, PanelReport
from models.progress import Steps, scaled
from worker.registry.model_versions import ModelCard
from worker.registry.registry import ModelNotFound, Registry, WeightsDamaged
from worker.revision_chain import RecordDamaged

COLLAPSED = 10.0  # score of variety, of 100, below which a model has collapsed
MARGIN = 2.0  # points of the score by which a new version may be worse: other seeds differ as much
HOW_TO_FORCE = "point the alias at it by hand, or train with promote_force"


def refusal(
    registry: Registry,
    new: ModelCard,
    alias: str,
    judge: PanelJudge | None,
    report: PanelReport | None,
) -> Steps[str | None]:
    """Why a new version must not take over an alias, in plain words; None if it may."""
    present = _present(registry, new.name, alias)
    if present is not None:
        lacking = [name for name in present.categories if name not in new.categories]
        if lacking:
            return (
                f"it lacks categories that version {present.version} serves: {', '.join(lacking)}"
            )
    if judge is None or report is None:
        return f"the photos are too few to judge it by; look at its samples, then {HOW_TO_FORCE}"
    if (variety := report.aspects["variety"]) < COLLAPSED:
        return f"it has collapsed: its images hardly vary (variety {variety:.0f} of 100)"
    if present is None:
        return None
    other = yield from _judged(registry, present, judge)
    if other is not None and report.score < other.score - MARGIN:
        return (
            f"it is worse than version {present.version}, which scores {other.score:.0f} of 100"
            f" against the same held-out photos; it scores {report.score:.0f}"
        )
    return None


def _present(registry: Registry, name: str, alias: str) -> ModelCard | None:
    """The version that the alias points to; None where that is none, or cannot be read."""
    try:
        return registry.resolve(f"{name}@{alias}")
    except (ModelNotFound, RecordDamaged):
        return None


def _judged(registry: Registry, card: ModelCard, judge: PanelJudge) -> Steps[PanelReport | None]:
    """The report of an older version; None where it cannot show the photos' categories."""
    photos = judge.held_out
    channels, side = photos.images.shape[1:3]
    is_comparable = set(photos.categories) <= set(card.categories)
    if not is_comparable or card.capabilities["channels"] != channels:
        return None
    try:
        generator = load_model(registry.weights(card)).generator
    except (WeightsDamaged, CheckpointError):
        return None
    places = torch.tensor([card.categories.index(name) for name in photos.categories])
    wanted = replace(photos, labels=places[photos.labels], categories=tuple(card.categories))
    images = yield from scaled(generate_steps(generator, wanted), 0.0, 0.2)
    if images.shape[2] != side:
        resized = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True)
        images = resized.round().clamp(0, 255).to(torch.uint8)
    return (yield from scaled(judge.judge_images(images), 0.2))
