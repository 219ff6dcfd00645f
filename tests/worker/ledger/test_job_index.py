"""The job index agrees with object storage after outages, wipes and late writes."""

import random
from itertools import product

import pytest
from redis import Redis

from worker.ledger.job_index import COMPLETE, PLACES, STATUSES, TYPES, JobIndex, rebuild
from worker.ledger.records import Records
from worker.queue.queue import JobQueue
from worker.queue.queue_position import positions_of
from worker.queue.reconciler import reconcile
from worker.schemas.jobs import JobRecord, move
from worker.schemas.requests import GenerateJob, JobRequest, JobType, NasJob, TrainJob
from worker.storage import Storage

DATASET = "ds_00000000000000sample"
MODELS = ("m", "shoes")


def request(job_type: JobType, model: str) -> JobRequest:
    if job_type == "train":
        return TrainJob(dataset=DATASET, model=model)
    if job_type == "nas":
        return NasJob(dataset=DATASET, model=model)
    return GenerateJob(n=1, model=f"{model}:3")


def submitted(jobs: JobQueue, job_type: JobType = "train", model: str = "m") -> JobRecord:
    return jobs.submit(job_type, request(job_type, model))


def some_jobs(jobs: JobQueue, count: int) -> list[JobRecord]:
    """Jobs of all types, each moved to a random status."""
    source = random.Random(0)
    records = [submitted(jobs, source.choice(TYPES), source.choice(MODELS)) for _ in range(count)]
    for record in records:
        held = jobs.ledger.claim(record.id, record.id) if source.random() < 0.8 else None
        if held is not None and source.random() < 0.7:
            jobs.ledger.commit(held, source.choice(["succeeded", "failed"]))
        elif source.random() < 0.5:
            jobs.cancel(record.id)
    return records


def pages(jobs: JobQueue) -> dict[object, list[tuple[str, str]]]:
    """The jobs listed for every filter by type, status and model, read in pages of three."""
    found: dict[object, list[tuple[str, str]]] = {}
    for job_type, status, model in product((None, *TYPES), (None, *STATUSES), (None, *MODELS)):
        ids: list[tuple[str, str]] = []
        after, has_more = None, True
        while has_more:
            records, has_more = jobs.page(job_type, status, 3, after, model)
            assert len(records) == 3 or not has_more
            ids += [(record.id, record.status) for record in records]
            after = ids[-1][0] if ids else None
        found[job_type, status, model] = ids
    return found


@pytest.fixture
def index(jobs: JobQueue) -> JobIndex:
    """A complete index of a service without jobs."""
    for _ in rebuild(jobs.ledger.index, jobs.ledger.records):
        pass
    return jobs.ledger.index


def from_storage(jobs: JobQueue, redis: Redis) -> dict[object, list[tuple[str, str]]]:
    complete = redis.delete(COMPLETE)
    found = pages(jobs)
    if complete:
        redis.set(COMPLETE, 1)
    return found


def test_pages_are_those_that_storage_would_give(
    jobs: JobQueue, index: JobIndex, redis: Redis
) -> None:
    records = some_jobs(jobs, 40)
    assert index.is_complete
    found = pages(jobs)
    assert found == from_storage(jobs, redis)
    assert [job_id for job_id, _ in found[None, None, None]] == sorted(
        (record.id for record in records), reverse=True
    )
    assert len({status for _, status in found[None, None, None]}) >= 5
    models = {record.id: record.model for record in records}
    for model in MODELS:
        of_model = [entry for entry in found[None, None, None] if models[entry[0]] == model]
        assert found[None, None, model] == of_model


@pytest.mark.usefixtures("index")
def test_a_page_lists_nothing_in_storage(
    jobs: JobQueue, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_jobs(jobs, 5)

    def listed(*_: object) -> dict[str, int]:
        raise AssertionError

    monkeypatch.setattr(storage, "sizes", listed)
    assert len(jobs.page(None, None, 50, None)[0]) == 5


def test_a_wiped_index_is_built_again(jobs: JobQueue, index: JobIndex, redis: Redis) -> None:
    some_jobs(jobs, 20)
    before = pages(jobs)
    redis.flushall()
    assert not index.is_complete
    assert pages(jobs) == before
    for _ in rebuild(index, jobs.ledger.records):
        pass
    assert index.is_complete
    assert pages(jobs) == before


def test_an_index_that_was_wiped_while_it_was_built_is_not_complete(
    jobs: JobQueue, redis: Redis
) -> None:
    index = jobs.ledger.index
    token = index.begin_building()
    redis.flushall()
    index.end_building(token)
    assert not index.is_complete


def test_a_page_of_one_model_reads_no_others(
    jobs: JobQueue, index: JobIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10,000 jobs, whose records are in the index alone."""
    shoes = [submitted(jobs, "train", "shoes").id for _ in range(3)]
    many = [JobRecord.new("train", request("train", "m")) for _ in range(10_000)]
    index.put_all(many)
    read: list[str] = []
    read_cached = Records.read_cached

    def counted(self: Records, job_id: str) -> JobRecord:
        read.append(job_id)
        return read_cached(self, job_id)

    monkeypatch.setattr(Records, "read_cached", counted)
    first, more = jobs.page(None, None, 2, None, "shoes")
    rest = jobs.page(None, None, 2, first[-1].id, "shoes")
    assert ([record.id for record in first], more) == ([shoes[2], shoes[1]], True)
    assert ([record.id for record in rest[0]], rest[1]) == ([shoes[0]], False)
    assert set(read) == set(shoes)


def test_an_index_of_an_earlier_release_is_built_anew(
    jobs: JobQueue, index: JobIndex, redis: Redis
) -> None:
    """It has no sets of single models, and does not name a job's model."""
    some_jobs(jobs, 20)
    before = pages(jobs)
    redis.delete(COMPLETE, *redis.keys("vitrine:jobs:*:m"), *redis.keys("vitrine:jobs:*:shoes"))
    for job_id, place in redis.hgetall(PLACES).items():
        redis.hset(PLACES, job_id, str(place).rsplit(" ", 1)[0])
    redis.set("vitrine:jobs:complete", 1)
    assert not index.is_complete
    assert pages(jobs) == before
    for _ in rebuild(index, jobs.ledger.records):
        pass
    assert index.is_complete
    assert pages(jobs) == before


def test_a_deleted_job_is_in_no_set(jobs: JobQueue, index: JobIndex, redis: Redis) -> None:
    record = jobs.cancel(submitted(jobs).id)
    jobs.ledger.delete(record.id)
    assert [key for key in redis.keys("vitrine:jobs:*") if redis.type(key) == "zset"] == []
    assert index.newest(None, None, None, 10, "m") == []


def test_an_older_revision_that_comes_late_changes_nothing(jobs: JobQueue, index: JobIndex) -> None:
    record = submitted(jobs)
    jobs.cancel(record.id)
    index.put(record)
    assert index.newest(None, "queued", None, 10) == []
    assert index.newest("train", "cancelled", None, 10) == [record.id]


@pytest.mark.usefixtures("index")
def test_what_happens_while_redis_is_away_is_made_up_for(jobs: JobQueue) -> None:
    """The transitions are written to storage only, not to the index."""
    records = jobs.ledger.records
    unseen = records.append(JobRecord.new("train", request("train", "m")))
    ended = submitted(jobs)
    records.append(move(ended, "cancelled"))
    lost = submitted(jobs)
    cancelled = jobs.cancel(lost.id)
    assert cancelled.terminal
    # As if a killed Redis had lost its last second.
    jobs.leases.redis.hdel("vitrine:jobs:places", lost.id)
    jobs.ledger.index.put(lost)
    reconcile(jobs)
    assert {record.id for record in jobs.page(None, "queued", 10, None)[0]} == {unseen.id}
    assert {record.id for record in jobs.page(None, "cancelled", 10, None)[0]} == {
        ended.id,
        lost.id,
    }
    assert jobs.ledger.index.unended() == {unseen.id}


@pytest.mark.usefixtures("index")
def test_a_job_that_is_half_deleted_is_not_listed(jobs: JobQueue) -> None:
    record, other = (jobs.cancel(submitted(jobs).id) for _ in range(2))
    jobs.ledger.records.delete(record.id)  # by a process that died before it changed the index
    assert jobs.page(None, None, 10, None) == ([other], False)


@pytest.mark.usefixtures("index")
def test_positions_take_one_look_at_the_queue(jobs: JobQueue, redis: Redis) -> None:
    records = [submitted(jobs) for _ in range(6)]
    redis.config_resetstat()
    positions = positions_of(jobs, records)
    assert [positions[record.id].before for record in records] == list(range(6))
    assert redis.info("commandstats")["cmdstat_lrange"]["calls"] == 1
    assert positions_of(jobs, [jobs.cancel(records[0].id)]) == {}
