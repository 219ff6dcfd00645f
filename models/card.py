"""Model card: the metadata stored with a model version, and its sample sheet."""

from dataclasses import asdict

from torch import nn

from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import encode
from models.inference.sample import sample
from models.networks.gan import Generator
from models.training.state import TrainState

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

SHEET_COLUMNS = 10
SHEET_ROWS = 20  # categories shown; a sheet with hundreds of rows would be too long to view
SHEET_TILE = 64  # px
FIRST_SEED = 1_000  # fixed, so that the sample sheets of one training can be compared


def sample_sheet(
    generator: Generator, categories: tuple[str, ...], state: TrainState | None = None
) -> bytes:
    """PNG of samples from fixed seeds, one row for each of the first `SHEET_ROWS` categories.

    It is headed by how far the training `state` is.
    """
    seeds = range(FIRST_SEED, FIRST_SEED + SHEET_COLUMNS)
    rows = [
        list(sample(generator, seeds, [label] * SHEET_COLUMNS))
        for label in range(min(len(categories), SHEET_ROWS))
    ]
    tile = max(SHEET_TILE, generator.config.resolution)
    headings = [(0, f"step {state.step:,}, {state.images:,} images seen")] if state else ()
    sheet = contact_sheet(rows, categories[:SHEET_ROWS], tile=tile, headings=headings)
    return encode(sheet, "png")


def describe_model(
    state: TrainState,
    categories: tuple[str, ...],
    data: dict[str, Json],
    evaluation: dict[str, Json] | None,
) -> dict[str, Json]:
    """The card's fields; `data` describes the training data.

    `evaluation` is `evaluation.Report` as a dict, None where too few photos could be held out.
    """
    gan, config = state.generator.config, state.config
    architecture: dict[str, Json] = asdict(gan)
    architecture["generator_parameters"] = _parameters(state.generator)
    architecture["discriminator_parameters"] = _parameters(state.discriminator)
    training: dict[str, Json] = {
        **asdict(config),
        "betas": list(config.betas),
        "steps": state.step,
        "recoveries": state.recoveries,
        "images_seen": state.images,
        "seconds": round(state.seconds, 1),
        "device": state.device.type,
    }
    capabilities: dict[str, Json] = {
        "resolution": gan.resolution,
        "channels": gan.channels,
        "truncation": True,
        "enhance": True,
        "attributes": [],
        "background": False,
        # True with a classifier: `models.classification.photo_classifier.describe_in_card`.
        "classify": False,
        "min_category_probability": False,
    }
    return {
        "categories": list(categories),
        "capabilities": capabilities,
        "architecture": architecture,
        "training": training,
        "data": data,
        "metrics": {
            "images_per_second": round(state.images / max(state.seconds, 1e-9), 1),
            "evaluation": evaluation,
        },
    }


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
