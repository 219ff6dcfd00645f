"""Stages of the train and nas jobs, and how much of `max_seconds` each may take."""

from models.classification.fitting import MOST_HELD_OUT, MOST_PHOTOS
from models.data.datasets import Dataset
from models.evaluation.panel import Panel
from models.evaluation.panel_report import expected_seconds
from models.search.time_budget import PROBE_S, PROBE_SHARE
from worker.attempt.progress_reporter import Reportable
from worker.attempt.stage_plan import StagePlan
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetRecord
from worker.ledger.time_spent import seconds_spent
from worker.preparation.cutting import CUTTING, cutting_seconds
from worker.schemas.requests import NasJob, TrainJob
from worker.storage import Storage

Stages = dict[str, float | None]  # seconds by name, in order; see `StagePlan`

LOADING, FITTING, LOOKING = "loading data", "fitting the CNN", "looking at the photos"
TRAINING, REGISTERING = "training", "registering"
OPENING, EVALUATING = "preparing the judges", "evaluating"
CLASSIFYING = "fitting the classifier"
FOR_SEARCH = " of the search"  # ends the names of the stages that prepare a search's own photos
MEASURING, SEARCHING, RETRAINING = "measuring the speed", "searching", "retraining"
GENERATING = "generating"

LOADING_S = 1e-3  # for each photo; measured while it runs
LOOKING_S = 5.0
GENERATING_S = 0.05  # for each image
FITTING_SHARE = 0.1  # of the time, at most; the CNN of grey photos
OPENING_SHARE = 0.12  # of the time, at most, unless the stages before it end early
EVALUATING_SHARE = 0.08  # the same
CLASSIFYING_SHARE = 0.1  # the same
BACKBONE_S, CLASSIFYING_S = 3.0, 0.05  # to open the backbone; for each photo
REGISTERING_S, REGISTERING_SHARE = 4.0, 0.25  # the smaller one


def open_plan(storage: Storage, attempt: Reportable, dataset: DatasetRecord) -> StagePlan:
    """The plan of a train or nas job on a data set, whose earlier attempts have spent time."""
    job, grey = attempt.record.request, dataset.grey
    assert isinstance(job, TrainJob | NasJob)
    opening: Stages = {OPENING: OPENING_SHARE * job.max_seconds}
    classifying = _classifying(job, dataset.images)
    if isinstance(job, TrainJob):
        training: Stages = {TRAINING: None, **classifying, **opening}
    else:
        training = {**_searching(job, grey=grey), **opening, RETRAINING: None, **classifying}
    stages: Stages = {
        **_cutting(storage, job, dataset),
        LOADING: LOADING_S * dataset.images,
        **_preparing(job, grey=grey),
        **training,
        EVALUATING: EVALUATING_SHARE * job.max_seconds,
        REGISTERING: min(REGISTERING_S, REGISTERING_SHARE * job.max_seconds),
    }
    if isinstance(job, NasJob) and job.generate is not None:
        stages[GENERATING] = GENERATING_S * job.generate.n
    return StagePlan(stages, job.max_seconds, seconds_spent(storage, attempt.record))


def _cutting(storage: Storage, job: TrainJob | NasJob, dataset: DatasetRecord) -> Stages:
    """The stage that makes the masks of studio photos, where they are not stored yet."""
    if dataset.normalisation(job.normalise) == "as_is":
        return {}
    if CutoutStore(storage, dataset.id).find() is not None:
        return {}
    return {CUTTING: cutting_seconds(dataset.images)}


def _preparing(job: TrainJob | NasJob, purpose: str = "", *, grey: bool) -> Stages:
    fitting: Stages = {FITTING + purpose: FITTING_SHARE * job.max_seconds} if grey else {}
    return {**fitting, LOOKING + purpose: LOOKING_S}


def _classifying(job: TrainJob | NasJob, photos: int) -> Stages:
    expected_s = BACKBONE_S + CLASSIFYING_S * min(photos, MOST_PHOTOS + MOST_HELD_OUT)
    return {CLASSIFYING: min(expected_s, CLASSIFYING_SHARE * job.max_seconds)}


def _searching(job: NasJob, *, grey: bool) -> Stages:
    measuring = {MEASURING: min(PROBE_S, PROBE_SHARE * job.max_seconds)}
    return {**_preparing(job, FOR_SEARCH, grey=grey), **measuring, SEARCHING: None}


def allot_evaluation(plan: StagePlan, panel: Panel, training: Dataset, held_out: Dataset) -> None:
    """Set aside what judging a generator takes on this machine, within its shares."""
    opening, judging = expected_seconds(panel, training, held_out)
    plan.allot(OPENING, min(opening, OPENING_SHARE * plan.budget_s))
    plan.allot(EVALUATING, min(judging, EVALUATING_SHARE * plan.budget_s))


def allot_no_evaluation(plan: StagePlan) -> None:
    """Set nothing aside: there are too few photos to judge by."""
    plan.allot(OPENING, 0.0)
    plan.allot(EVALUATING, 0.0)
