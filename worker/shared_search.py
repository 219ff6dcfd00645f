"""One process's part in a search: its photos, what all agreed upon, and what has been found out."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from optuna.storages import JournalStorage

from models.budget import KEEP, Budget, images_per_second, plan
from models.evaluation import Photos
from models.finals import FinalConfig, train_finalists
from models.rungs import Rungs
from models.search import SearchConfig, SearchProgress, search
from models.search_space import EVERYTHING, Architecture, narrow
from models.trials import Goal
from worker.architectures import preset_architecture
from worker.artifacts import search_folder
from worker.datasets import DatasetRecord, DatasetStore
from worker.judging import Judge, load_photos, prepare, prepare_search
from worker.queue import JobQueue, connect
from worker.requests import NasJob
from worker.shared_states import SharedStates
from worker.storage import ObjectExists, ObjectNotFound
from worker.study import RedisJournal
from worker.watch import Watch

JOURNAL = "journal.jsonl"  # among the states: a copy that Redis cannot lose
REDIS_PATIENCE_S = 60  # the study cannot do without
WAIT_S = 0.5  # between two looks for something to train
TOO_FEW = "the data set has too few photos for a search; upload more"


@dataclass(frozen=True, kw_only=True)
class SharedSearch:
    """What this process knows of a search; `owner` is the name that it claims trainings by."""

    job_id: str
    job: NasJob
    owner: str
    jobs: JobQueue
    watch: Watch
    dataset: DatasetRecord
    judge: Judge
    photos: Photos  # the search's own
    start: Architecture
    budget: Budget
    journal: RedisJournal
    rungs: Rungs
    states: SharedStates
    deadline: float  # of the search, by this process's monotonic clock

    def candidates(self) -> Iterator[SearchProgress]:
        """Train candidates while there are any, and time."""
        config = SearchConfig(
            max_trials=self.job.max_trials,
            max_seconds=self.seconds_left(),
            rungs=self.budget.rungs,
            keep=KEEP,
        )
        return search(self.rungs, self.states, self.start, self.photos, config, self.owner)

    def finals(self) -> Iterator[SearchProgress]:
        """Train finalists while there are any."""
        config = FinalConfig(
            images=self.budget.final_images,
            checkpoint_every_s=self.jobs.settings.checkpoint_every_s,
        )
        return train_finalists(
            self.rungs, self.states, self.start, self.judge.photos, config, self.owner
        )

    def seconds_left(self) -> float:
        """Of the search."""
        return max(0.0, self.deadline - time.monotonic())

    def is_alive(self, owner: str) -> bool:
        """Whether the process of this name still trains what it has claimed."""
        return owner == self.owner or self.jobs.leases.is_held(owner)

    def forget(self) -> None:
        """Tell the helpers, and Redis, that it is over. What is stored goes with the job's end."""
        self.jobs.dismiss(self.job_id)
        self.journal.delete()


def open_search(watch: Watch, jobs: JobQueue, owner: str) -> SharedSearch:
    """Take part in the search of the job that `watch` is about.

    Raises:
        ValueError: the data set is too small to be searched on.
    """
    record, storage = watch.claim.record, jobs.ledger.storage
    job = record.request
    assert isinstance(job, NasJob)
    dataset = DatasetStore(storage).fetch(job.dataset)
    images = load_photos(storage, watch, dataset, job.resolution)
    training, judge = prepare(storage, watch, dataset.id, images)
    if judge is None:
        raise ValueError(TOO_FEW)
    photos = prepare_search(storage, watch, dataset.id, training)
    if photos is None:
        raise ValueError(TOO_FEW)
    start = preset_architecture(job, dataset, len(training.labels))
    budget = _agreed_budget(job, watch, jobs, start, photos)
    states = SharedStates(storage, record.id)
    assert jobs.settings.redis_url is not None
    redis = connect(jobs.settings.redis_url, patience_s=REDIS_PATIENCE_S)
    journal = RedisJournal(redis, f"vitrine:search:{record.id}")
    journal.restore(states.get(JOURNAL, b""))
    rungs = Rungs(
        "search", JournalStorage(journal), len(budget.rungs), goal_of(job), job.strategy, job.seed
    )
    # Earlier attempts, and whoever helped them, have used up a part of the time.
    spent = sum(trial.seconds for trial in rungs.best()) / budget.processes
    return SharedSearch(
        job_id=record.id,
        job=job,
        owner=owner,
        jobs=jobs,
        watch=watch,
        dataset=dataset,
        judge=judge,
        photos=photos,
        start=start,
        budget=budget,
        journal=journal,
        rungs=rungs,
        states=states,
        deadline=time.monotonic() + budget.search_seconds - spent,
    )


def goal_of(job: NasJob) -> Goal:
    """The objectives as the search knows them."""
    limits = {each.metric: each.limit for each in job.objectives}
    return Goal(
        objectives=tuple(each.metric for each in job.objectives),
        latency_ms=limits.get("latency_ms"),
        parameters=limits.get("parameters"),
        space=EVERYTHING if job.search_space is None else narrow(job.search_space),
    )


def _agreed_budget(
    job: NasJob, watch: Watch, jobs: JobQueue, start: Architecture, photos: Photos
) -> Budget:
    """How long trainings are: whoever comes first measures, the others read."""
    storage, key = jobs.ledger.storage, f"{search_folder(watch.claim.record.id)}/budget.json"
    try:
        return _read_budget(storage.read(key))
    except ObjectNotFound:
        steps = images_per_second(start, photos.training, job.max_seconds)
        speed = watch.drive("measuring the speed", steps)
    processes = max(1, min(job.parallel_trials, jobs.workers()))
    finals = (job.finalists + 1) * job.final_seeds
    budget = plan(speed, job.max_seconds, job.max_trials, finals, processes)
    try:
        storage.create(key, json.dumps(asdict(budget)).encode())
    except ObjectExists:
        return _read_budget(storage.read(key))
    return budget


def _read_budget(data: bytes) -> Budget:
    fields = json.loads(data)
    return Budget(**fields | {"rungs": tuple(fields["rungs"])})
