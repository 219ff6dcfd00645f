"""Architecture and recipe of a training: from a preset, or from the winner of a search job."""

import json
from dataclasses import replace
from typing import Any

from models.search.search_space import (
    Architecture,
    Point,
    build,
    describe_architecture,
)
from models.training.presets import preset_config, preset_recipe
from models.training.remedies import Remedies
from worker.attempt.attempt import Attempt
from worker.datasets.datasets import DatasetRecord
from worker.ledger.artifacts import JobFiles
from worker.schemas.requests import NasJob, TrainJob
from worker.schemas.training_options import CollapseRemedies
from worker.storage import ObjectNotFound, Storage

FILE = "architecture.json"


def preset_architecture(
    job: TrainJob | NasJob, record: DatasetRecord, photos: int, **recipe: Any
) -> Architecture:
    """The job's preset for this number of training photos; `recipe` overrides `TrainConfig`."""
    gan = preset_config(job.preset, job.resolution, record.channels, len(record.categories))
    changes = {"flip": job.flip, "balanced": job.balanced, "seed": job.seed, **recipe}
    return Architecture(gan=gan, recipe=preset_recipe(job.resolution, photos, **changes))


def architecture_of(
    job: TrainJob, storage: Storage, record: DatasetRecord, photos: int
) -> Architecture:
    """The architecture of a train job; fields set in the job override the search's choices.

    A batch that was not asked for has at most as many photos as are trained on.

    Raises:
        ValueError: the search job that it names has no architecture for this resolution.
    """
    wanted = job.model_dump(include=TrainJob.RECIPE, exclude_none=True)
    wanted["remedies"] = Remedies(**wanted["remedies"])
    start = preset_architecture(job, record, photos, **wanted)
    if job.architecture is None:
        return start
    point = _fetch(storage, job.architecture.from_job, job.resolution)
    chosen = build(point, start)
    overriding = {"loss", "batch_size"} & set(wanted)
    changes: dict[str, Any] = {"batch_size": min(chosen.recipe.batch_size, photos)}
    changes |= {name: wanted[name] for name in overriding}
    if "augment_p" in wanted:
        changes |= {"augment_p": wanted["augment_p"], "augment_p_end": None}
    if job.remedies != CollapseRemedies():
        changes["remedies"] = wanted["remedies"]
    return replace(chosen, recipe=replace(chosen.recipe, **changes))


def store_architecture(attempt: Attempt, architecture: Architecture) -> None:
    """Store the winner of a search as a file of the job; train jobs can start from it."""
    content = {
        "resolution": architecture.gan.resolution,
        "point": architecture.point(),
        "description": describe_architecture(architecture),
    }
    attempt.store(FILE, json.dumps(content, indent=2).encode())


def _fetch(storage: Storage, job_id: str, resolution: int) -> Point:
    try:
        found = json.loads(JobFiles(storage, job_id).read(FILE))
    except ObjectNotFound as error:
        raise ValueError(f"architecture.from_job: {job_id} has found no architecture") from error
    if found["resolution"] != resolution:
        raise ValueError(
            f"architecture.from_job: {job_id} searched at {found['resolution']} px; set resolution"
        )
    point: Point = found["point"]
    return point
