"""Stages of the train and nas jobs, and how much of `max_seconds` each may take."""

from models.evaluation.evaluation import EvaluationSet, evaluation_seconds
from models.evaluation.panel_report import judging_seconds
from models.networks.gan import Generator
from models.search.time_budget import PROBE_S, PROBE_SHARE
from worker.attempt.progress_reporter import Reportable
from worker.attempt.stage_plan import StagePlan
from worker.ledger.time_spent import seconds_spent
from worker.schemas.requests import GenerateJob, NasJob, TrainJob
from worker.storage import Storage

Stages = dict[str, float | None]  # seconds by name, in order; see `StagePlan`

LOADING, FITTING, LOOKING = "loading data", "fitting the CNN", "looking at the photos"
TRAINING, EVALUATING, JUDGING, REGISTERING = "training", "evaluating", "judging", "registering"
FOR_SEARCH = " of the search"  # ends the names of the stages that prepare a search's own photos
MEASURING, SEARCHING, RETRAINING = "measuring the speed", "searching", "retraining"
GENERATING = "generating"

LOADING_S, LOOKING_S = 1e-3, 1e-3  # for each photo; both are measured while they run
GENERATING_S = 0.05  # for each image
FITTING_SHARE = 0.1  # of the time, at most
EVALUATING_SHARE = 0.1  # of the time, at most, unless the stages before it end early
JUDGING_SHARE = 0.15  # the same
REGISTERING_S, REGISTERING_SHARE = 4.0, 0.25  # the smaller one


def open_plan(storage: Storage, attempt: Reportable, photos: int) -> StagePlan:
    """The plan of a train or nas job on so many photos, whose earlier attempts have spent time."""
    job = attempt.record.request
    assert not isinstance(job, GenerateJob)
    training = {TRAINING: None} if isinstance(job, TrainJob) else _searching(job, photos)
    stages: Stages = {
        LOADING: LOADING_S * photos,
        **_preparing(job, photos),
        **training,
        EVALUATING: EVALUATING_SHARE * job.max_seconds,
        JUDGING: JUDGING_SHARE * job.max_seconds,
        REGISTERING: min(REGISTERING_S, REGISTERING_SHARE * job.max_seconds),
    }
    if isinstance(job, NasJob) and job.generate is not None:
        stages[GENERATING] = GENERATING_S * job.generate.n
    return StagePlan(stages, job.max_seconds, seconds_spent(storage, attempt.record))


def _preparing(job: TrainJob | NasJob, photos: int, purpose: str = "") -> Stages:
    return {
        FITTING + purpose: FITTING_SHARE * job.max_seconds,
        LOOKING + purpose: LOOKING_S * photos,
    }


def _searching(job: NasJob, photos: int) -> Stages:
    measuring = {MEASURING: min(PROBE_S, PROBE_SHARE * job.max_seconds)}
    sharing = {SEARCHING: None, RETRAINING: None}
    return {**_preparing(job, photos, FOR_SEARCH), **measuring, **sharing}


def allot_evaluation(plan: StagePlan, generator: Generator, photos: EvaluationSet | None) -> None:
    """Set aside what judging such a generator takes on this machine, within its shares."""
    evaluating = 0.0 if photos is None else evaluation_seconds(generator, photos)
    judging = 0.0 if photos is None else judging_seconds(photos)
    plan.allot(EVALUATING, min(evaluating, EVALUATING_SHARE * plan.budget_s))
    plan.allot(JUDGING, min(judging, JUDGING_SHARE * plan.budget_s))
