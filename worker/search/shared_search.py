"""Shared search: what the owner of a nas job and its helpers each open to train candidates.

The trainings are in a study in Redis and the states in object storage; all processes use the same
budget, which the first one measures.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from optuna.storages import JournalStorage

from models.evaluation.evaluation_set import EvaluationSet
from models.evaluation.panel_report import PanelJudge
from models.networks.gan import Generator
from models.networks.layers import best_device
from models.search.final_training import FinalConfig, FinalPhotos, train_finalists
from models.search.search import SearchConfig, SearchProgress, search
from models.search.search_space import EVERYTHING, Architecture, narrow
from models.search.successive_halving import SuccessiveHalving
from models.search.time_budget import (
    KEEP,
    SEARCH_SHARE,
    Budget,
    FinalLength,
    images_per_second,
    plan,
    plan_finals,
)
from models.search.trials import Goal
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.datasets import DatasetRecord, DatasetStore
from worker.ledger.artifacts import search_folder
from worker.queue.queue import HELPERS, JobQueue, connect
from worker.queue.queue_stats import count_workers
from worker.schemas.requests import NasJob
from worker.search.redis_journal import RedisJournal
from worker.search.shared_states import SharedStates
from worker.storage import ObjectExists, ObjectNotFound
from worker.training.architectures import preset_architecture
from worker.training.classifier import ClassifierFitting
from worker.training.evaluation_photos import (
    Judge,
    prepare,
    prepare_search,
)
from worker.training.photo_loading import load_photos
from worker.training.stages import (
    EVALUATING,
    MEASURING,
    OPENING,
    SEARCHING,
    allot_evaluation,
    open_plan,
)

FINAL_LENGTH = "finals.json"
JOURNAL = "journal.jsonl"  # copy of the journal in object storage, in case Redis is wiped
REDIS_TIMEOUT_S = 60  # long: the study does not work without Redis
SHORTEST_S = 1.0  # of search and final trainings, however little time there is
COMPARING_SHARE = 0.05  # of the time, for comparing the candidates
WAIT_S = 0.5  # between two polls for something to train
TOO_FEW = "the data set has too few photos for a search; upload more"


@dataclass(frozen=True, kw_only=True)
class SharedSearch:
    """This process's view of a search; `owner` is the name under which it claims trainings."""

    job_id: str
    job: NasJob
    owner: str
    jobs: JobQueue
    reporter: ProgressReporter
    dataset: DatasetRecord
    judge: Judge
    classifier: ClassifierFitting
    photos: EvaluationSet  # of the search, split from the training part
    start: Architecture
    budget: Budget
    journal: RedisJournal
    rungs: SuccessiveHalving
    states: SharedStates

    def candidates(self) -> Iterator[SearchProgress]:
        """Train candidates while there are candidates and time."""
        config = SearchConfig(
            max_trials=self.job.max_trials,
            max_seconds=self.seconds_left(),
            rungs=self.budget.rungs,
            keep=KEEP,
        )
        return search(self.rungs, self.states, self.start, self.photos, config, self.owner)

    def finals(self) -> Iterator[SearchProgress]:
        """Run final trainings while there are any."""
        length = self.final_length
        config = FinalConfig(
            images=length.images,
            max_seconds=length.seconds,
            seconds_left=self.final_seconds_left(),
            checkpoint_every_s=self.jobs.settings.checkpoint_every_s,
        )
        photos = FinalPhotos(self.judge.training, self.panel)
        return train_finalists(self.rungs, self.states, self.start, photos, config, self.owner)

    @cached_property
    def panel(self) -> PanelJudge:
        """The judges of the final trainings and of the model; looks at the photos when opened."""
        plan, job = self.reporter.plan, self.job
        finals = (job.finalists + 1) * job.final_seeds
        judgements = 1 + math.ceil(finals / self.budget.processes)
        seconds = plan.seconds_for(OPENING) + plan.seconds_for(EVALUATING)
        return self.reporter.run(OPENING, self.judge.open(seconds, judgements))

    def seconds_left(self) -> float:
        """Remaining time of the search; 0 once it is over."""
        ends_s = self.budget.began_s + self.budget.search_seconds
        return max(0.0, ends_s - self.reporter.plan.spent_s)

    def final_seconds_left(self) -> float:
        """Remaining time of the final trainings; 0 once it is over."""
        return max(0.0, self.budget.ends_s - self.reporter.plan.spent_s)

    def plan_finals(self, finals: int) -> None:
        """Settle the length of the final trainings by the time that is left now."""
        budget = self.budget
        generator = Generator(self.start.gan).eval().to(best_device())
        measuring_s = self.panel.seconds(generator)
        seconds = self.final_seconds_left()
        speed, processes = budget.images_per_second, budget.processes
        length = plan_finals(speed, seconds, finals, processes, measuring_s)
        _agreed(self.jobs, self.job_id, FINAL_LENGTH, lambda: asdict(length))

    @cached_property
    def final_length(self) -> FinalLength:
        """The length of the final trainings, which the owner has settled."""
        key = f"{search_folder(self.job_id)}/{FINAL_LENGTH}"
        return FinalLength(**json.loads(self.jobs.ledger.storage.read(key)))

    def is_alive(self, owner: str) -> bool:
        """Whether the process that claims trainings as `owner` is alive."""
        return owner == self.owner or self.jobs.leases.is_held(owner)

    def close(self) -> None:
        """Cancel pending helpers and delete the journal; the ledger deletes the stored states."""
        self.jobs.remove_helpers(self.job_id)
        self.journal.delete()


def open_search(reporter: ProgressReporter, jobs: JobQueue, owner: str) -> SharedSearch:
    """Open the search of the reporter's job: load the photos, agree on the budget, join the study.

    Raises:
        ValueError: the data set is too small to be searched on.
    """
    record, storage = reporter.attempt.record, jobs.ledger.storage
    job = record.request
    assert isinstance(job, NasJob)
    dataset = DatasetStore(storage).fetch(job.dataset)
    reporter.plan = open_plan(storage, reporter.attempt, dataset)
    images = load_photos(storage, reporter, dataset, job)
    training, judge = prepare(storage, reporter, dataset.id, images)
    if judge is None:
        raise ValueError(TOO_FEW)
    seconds = COMPARING_SHARE * job.max_seconds / job.max_trials
    photos = prepare_search(storage, reporter, dataset.id, training, seconds)
    if photos is None:
        raise ValueError(TOO_FEW)
    start = preset_architecture(job, dataset, len(training.labels))
    allot_evaluation(reporter.plan, judge.panel, training, judge.held_out)
    classifier = ClassifierFitting.of(storage, dataset, images)
    classifier.allot(reporter.plan)
    budget = _agreed_budget(job, reporter, jobs, start, photos)
    states = SharedStates(storage, record.id)
    journal = _restored_journal(jobs, record.id, states)
    rungs = SuccessiveHalving(
        "search", JournalStorage(journal), len(budget.rungs), goal_of(job), job.strategy, job.seed
    )
    return SharedSearch(
        job_id=record.id,
        job=job,
        owner=owner,
        jobs=jobs,
        reporter=reporter,
        dataset=dataset,
        judge=judge,
        classifier=classifier,
        photos=photos,
        start=start,
        budget=budget,
        journal=journal,
        rungs=rungs,
        states=states,
    )


def _restored_journal(jobs: JobQueue, job_id: str, states: SharedStates) -> RedisJournal:
    """The study's journal in Redis; from its copy where Redis was wiped."""
    assert jobs.settings.redis_url is not None
    redis = connect(jobs.settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
    journal = RedisJournal(redis, f"vitrine:search:{job_id}")
    journal.restore(states.get(JOURNAL, b""))
    return journal


def goal_of(job: NasJob) -> Goal:
    """The job's objectives, limits and search space as a `Goal`."""
    limits = {each.metric: each.limit for each in job.objectives}
    return Goal(
        objectives=tuple(each.metric for each in job.objectives),
        latency_ms=limits.get("latency_ms"),
        parameters=limits.get("parameters"),
        space=EVERYTHING if job.search_space is None else narrow(job.search_space),
    )


def _agreed_budget(
    job: NasJob,
    reporter: ProgressReporter,
    jobs: JobQueue,
    start: Architecture,
    photos: EvaluationSet,
) -> Budget:
    """The budget of all trainings: the first process measures and stores it, the others read it."""

    def measured() -> dict[str, object]:
        steps = images_per_second(start, photos.training, job.max_seconds)
        speed = reporter.run(MEASURING, steps)
        processes = max(1, min(job.parallel_trials, count_workers(jobs)[HELPERS]))
        began_s = reporter.plan.spent_s
        seconds = max(SHORTEST_S, reporter.plan.seconds_for(SEARCHING) / SEARCH_SHARE)
        budget = plan(speed, seconds, job.max_trials, processes)
        ends_s = began_s + seconds + reporter.plan.seconds_for(OPENING)
        return asdict(replace(budget, began_s=began_s, ends_s=ends_s))

    fields = _agreed(jobs, reporter.attempt.record.id, "budget.json", measured)
    return Budget(**fields | {"rungs": tuple(fields["rungs"])})


def _agreed(
    jobs: JobQueue, job_id: str, name: str, measure: Callable[[], dict[str, object]]
) -> dict[str, Any]:
    """What the first process of a search has measured and stored; JSON."""
    storage, key = jobs.ledger.storage, f"{search_folder(job_id)}/{name}"
    try:
        stored = storage.read(key)
    except ObjectNotFound:
        with suppress(ObjectExists):
            storage.create(key, json.dumps(measure()).encode())
        stored = storage.read(key)
    agreed: dict[str, Any] = json.loads(stored)
    return agreed
