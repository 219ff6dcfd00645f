"""Which networks and recipe a job begins with: a preset's, or those that a search has found."""

import json
from dataclasses import replace
from typing import Any

from models.presets import preset_config, preset_recipe
from models.remedies import Remedies
from models.search_space import Architecture, Point, build, describe
from worker.artifacts import JobFiles
from worker.claims import Claim
from worker.datasets import DatasetRecord
from worker.requests import CollapseRemedies, NasJob, TrainJob
from worker.storage import ObjectNotFound, Storage

FILE = "architecture.json"


def preset_architecture(
    job: TrainJob | NasJob, record: DatasetRecord, photos: int, **recipe: Any
) -> Architecture:
    """The preset of a job on so many training photos; `recipe` changes fields of `TrainConfig`."""
    gan = preset_config(job.preset, job.resolution, record.channels, len(record.categories))
    changes = {"flip": job.flip, "balanced": job.balanced, "seed": job.seed, **recipe}
    return Architecture(gan=gan, recipe=preset_recipe(job.resolution, photos, **changes))


def architecture_of(
    job: TrainJob, storage: Storage, record: DatasetRecord, photos: int
) -> Architecture:
    """What a train job trains: its own fields stand above the search's choices.

    Raises:
        ValueError: the job that it names has no architecture for this resolution.
    """
    wanted = job.model_dump(include=TrainJob.RECIPE, exclude_none=True)
    wanted["remedies"] = Remedies(**wanted["remedies"])
    start = preset_architecture(job, record, photos, **wanted)
    if job.architecture is None:
        return start
    point = _fetch(storage, job.architecture.from_job, job.resolution)
    chosen = build(point, start)
    overriding = {"loss", "batch_size"} & set(wanted)
    changes: dict[str, Any] = {name: wanted[name] for name in overriding}
    if "augment_p" in wanted:
        changes |= {"augment_p": wanted["augment_p"], "augment_p_end": None}
    if job.remedies != CollapseRemedies():
        changes["remedies"] = wanted["remedies"]
    return replace(chosen, recipe=replace(chosen.recipe, **changes))


def keep(claim: Claim, architecture: Architecture) -> None:
    """File what a search has found, for train jobs to take."""
    content = {
        "resolution": architecture.gan.resolution,
        "point": architecture.point(),
        "description": describe(architecture),
    }
    claim.store(FILE, json.dumps(content, indent=2).encode())


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
