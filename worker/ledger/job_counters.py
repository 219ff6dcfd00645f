"""Counters of ended jobs, their durations and the images they made, in Redis, for `GET /metrics`.

They restart at zero when Redis is wiped, which Prometheus counters may do. No decision depends on
them.
"""

import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import cast

from redis import Redis, RedisError

from worker.schemas.jobs import JobRecord
from worker.schemas.requests import JobType

logger = logging.getLogger(__name__)

KEY = "vitrine:tallies:jobs"
IMAGES_KEY = "vitrine:tallies:images"  # hash: model -> images made by jobs
MOST_MODELS = 200  # with a counter of their own; further models share `OTHERS`
OTHERS = "others"
RECENT = 20  # durations of each type that `read_usual_durations` takes the median of
BOUNDS_S = (10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)  # upper bounds of the buckets


@dataclass
class Durations:
    """Histogram of the durations, from start to end, of all jobs of a type."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    @property
    def cumulative(self) -> list[int]:
        """Number of jobs that took at most each of `BOUNDS_S`, then of all jobs."""
        return list(accumulate(self.counts))


@dataclass
class JobCounters:
    """The counters at one moment."""

    ended: dict[tuple[str, str], int] = field(default_factory=dict)  # by type and status
    durations: dict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))
    images: dict[str, int] = field(default_factory=dict)  # made by jobs, by model


def count_end(redis: Redis, record: JobRecord) -> None:
    """Count a job that has ended; it is not counted while Redis is away."""
    try:
        with redis.pipeline(transaction=False) as pipeline:
            pipeline.hincrby(KEY, f"ended:{record.type}:{record.status}", 1)
            if record.started_at is not None and record.finished_at is not None:
                took_s = (record.finished_at - record.started_at).total_seconds()
                pipeline.hincrby(KEY, f"took:{record.type}:{bisect_left(BOUNDS_S, took_s)}", 1)
                pipeline.hincrbyfloat(KEY, f"seconds:{record.type}:", took_s)
                if record.status == "succeeded":
                    pipeline.lpush(_recent_key(record.type), took_s)
                    pipeline.ltrim(_recent_key(record.type), 0, RECENT - 1)
            pipeline.execute()
    except RedisError:
        logger.warning("Redis is away: the end of %s is not counted", record.id)


def read_job_counters(redis: Redis) -> JobCounters:
    """All counts so far; raises RedisError."""
    counters = JobCounters()
    # redis-py's annotations leave open whether answers are decoded.
    for name, value in cast("dict[str, str]", redis.hgetall(KEY)).items():
        what, job_type, rest = name.split(":")
        if what == "ended":
            counters.ended[job_type, rest] = int(value)
        elif what == "took":
            counters.durations[job_type].counts[int(rest)] = int(value)
        else:
            counters.durations[job_type].total_s = float(value)
    images = cast("dict[str, str]", redis.hgetall(IMAGES_KEY))
    counters.images = {model: int(count) for model, count in images.items()}
    return counters


def count_images(redis: Redis, model: str, count: int) -> None:
    """Count images that a job has made; raises RedisError."""
    known = redis.hexists(IMAGES_KEY, model) or int(str(redis.hlen(IMAGES_KEY))) < MOST_MODELS
    redis.hincrby(IMAGES_KEY, model if known else OTHERS, count)


def read_usual_durations(redis: Redis, job_types: Iterable[JobType]) -> dict[JobType, float]:
    """Median of the last durations, in seconds, of each type of which a job has succeeded."""
    recent = {job_type: redis.lrange(_recent_key(job_type), 0, -1) for job_type in job_types}
    found = {job_type: cast("list[str]", lengths) for job_type, lengths in recent.items()}
    return {job_type: median(map(float, lengths)) for job_type, lengths in found.items() if lengths}


def _recent_key(job_type: JobType) -> str:
    return f"vitrine:recent-durations:{job_type}"
