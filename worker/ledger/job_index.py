"""Job index: job ids by type, status and model, as sorted sets in Redis.

Object storage is the source of truth; the index answers `GET /jobs` without listing every revision
of every job there. It is updated at each transition, lags where Redis was away, and is rebuilt from
storage after Redis was wiped. Until then `is_complete` is false and readers list storage.
"""

import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import cast, get_args

from redis import Redis

from worker.ledger.records import Records
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import RUNNING, TERMINAL, JobRecord, JobStatus
from worker.schemas.requests import JobType

logger = logging.getLogger(__name__)

PREFIX = "vitrine:jobs"
# Hash: job id -> "revision type:status model", of the newest revision indexed.
PLACES = f"{PREFIX}:places"
COMPLETE = f"{PREFIX}:complete-by-model"  # an index of an earlier release is built anew
TYPES: tuple[JobType, ...] = get_args(JobType)
STATUSES: tuple[JobStatus, ...] = get_args(JobStatus)
BUILDING = f"{PREFIX}:building"  # token of the latest rebuild; gone if Redis is wiped meanwhile
BATCH = 1000  # jobs in one round trip
READERS = 16  # threads that read records: a cloud store has a high latency

# A transition may be indexed late, so an older revision must never overwrite a newer one.
PUT = f"""
local id, revision, place, model = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local known = redis.call('HGET', KEYS[1], id)
if known then
  local known_revision, known_place = known:match('^(%d+) (%S+)')
  if tonumber(known_revision) > revision then return 0 end
  redis.call('ZREM', '{PREFIX}:' .. known_place, id)
  redis.call('ZREM', '{PREFIX}:' .. known_place .. ':' .. model, id)
end
redis.call('ZADD', '{PREFIX}:' .. place, 0, id)
redis.call('ZADD', '{PREFIX}:' .. place .. ':' .. model, 0, id)
redis.call('HSET', KEYS[1], id, revision .. ' ' .. place .. ' ' .. model)
return 1
"""
REMOVE = f"""
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  local place, model = known:match('^%d+ (%S+) ?(%S*)$')
  redis.call('ZREM', '{PREFIX}:' .. place, ARGV[1])
  redis.call('ZREM', '{PREFIX}:' .. place .. ':' .. model, ARGV[1])
end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


class JobIndex:
    """Sorted sets of job ids: one for each type and status, and one for each model in these.

    All methods raise RedisError.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._put = redis.register_script(PUT)
        self._remove = redis.register_script(REMOVE)

    @property
    def is_complete(self) -> bool:
        """Whether the index has been built since Redis was wiped."""
        return bool(self.redis.exists(COMPLETE))

    def begin_building(self) -> str:
        """Begin a rebuild; returns a token for `end_building`."""
        token = secrets.token_hex(8)
        self.redis.set(BUILDING, token)
        return token

    def end_building(self, token: str) -> None:
        """Mark the index as complete, unless Redis was wiped or another rebuild began since."""
        if self.redis.get(BUILDING) == token:
            self.redis.set(COMPLETE, 1)

    def put(self, record: JobRecord) -> None:
        """Index a job's revision, unless a newer one is indexed already."""
        self._put(keys=[PLACES], args=_arguments(record))

    def put_all(self, records: Iterable[JobRecord]) -> None:
        """As `put`, for many jobs in one round trip."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for record in records:
                self._put(keys=[PLACES], args=_arguments(record), client=pipeline)
            pipeline.execute()

    def remove(self, job_id: str) -> None:
        """Remove a deleted job from the index."""
        self._remove(keys=[PLACES], args=[job_id])

    def newest(
        self,
        job_type: JobType | None,
        status: JobStatus | None,
        after: str | None,
        limit: int,
        model: str | None = None,
    ) -> list[str]:
        """Ids of at most `limit` jobs older than the id `after`, newest first."""
        keys = [
            _set_key(each_type, each_status, model)
            for each_type, each_status in product(TYPES, STATUSES)
            if job_type in (None, each_type) and status in (None, each_status)
        ]
        start = "+" if after is None else f"({after}"
        with self.redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.zrevrangebylex(key, start, "-", 0, limit)
            found = cast("list[list[str]]", pipeline.execute())
        return sorted((job_id for ids in found for job_id in ids), reverse=True)[:limit]

    def unended(self) -> set[str]:
        """Ids of all jobs that are indexed as not ended."""
        places = [place for place in product(TYPES, STATUSES) if place[1] not in TERMINAL]
        with self.redis.pipeline(transaction=False) as pipeline:
            for place in places:
                pipeline.zrange(_set_key(*place), 0, -1)
            return {str(job_id) for ids in pipeline.execute() for job_id in ids}

    def running(self, job_types: Iterable[JobType]) -> set[str]:
        """Ids of the jobs of these types that are indexed as running or cancelling."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for place in product(job_types, RUNNING):
                pipeline.zrange(_set_key(*place), 0, -1)
            return {str(job_id) for ids in pipeline.execute() for job_id in ids}

    def types(self, job_ids: Sequence[str]) -> dict[str, JobType]:
        """The type of each of the jobs that is indexed, by job id."""
        if not job_ids:
            return {}
        places = cast("list[str | None]", self.redis.hmget(PLACES, list(job_ids)))
        return {
            job_id: cast("JobType", place.split()[1].split(":")[0])
            for job_id, place in zip(job_ids, places, strict=True)
            if place is not None
        }

    def ended_before(self, job_id: str) -> Iterator[str]:
        """Ids of the ended jobs that sort before `job_id`, so were submitted before it."""
        for job_type, status in product(TYPES, sorted(TERMINAL)):
            start = "-"
            while True:
                page = self.redis.zrangebylex(
                    _set_key(job_type, status), start, f"({job_id}", 0, BATCH
                )
                # redis-py's annotations leave open whether answers are decoded.
                ids = cast("list[str]", page)
                yield from ids
                if len(ids) < BATCH:
                    break
                start = f"({ids[-1]}"


def rebuild(index: JobIndex, records: Records) -> Iterator[int]:
    """Index every job in storage; yields how many are indexed, and is complete at its end.

    Raises:
        RedisError, StorageError: it has to begin again.
    """
    token = index.begin_building()
    jobs = list(records.newest_numbers().items())
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(jobs), BATCH):
            found = pool.map(lambda job: _readable(records, *job), jobs[first : first + BATCH])
            index.put_all(record for record in found if record is not None)
            yield min(first + BATCH, len(jobs))
    index.end_building(token)
    logger.info("the job index is built: %d jobs", len(jobs))


def _readable(records: Records, job_id: str, number: int) -> JobRecord | None:
    try:
        return records.revision(job_id, number)
    except RecordDamaged:  # it has been reported
        return None


def _arguments(record: JobRecord) -> list[str | int]:
    place = f"{record.type}:{record.status}"
    return [record.id, record.revision, place, record.model or ""]


def _set_key(job_type: JobType, status: JobStatus, model: str | None = None) -> str:
    """The key of one set; `model` narrows it to the jobs of one model."""
    return f"{PREFIX}:{job_type}:{status}" + ("" if model is None else f":{model}")
