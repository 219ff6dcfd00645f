"""Images of jobs are counted in Redis, and those of an outage after it."""

from pathlib import Path

from redis import Redis

from worker.embedded_valkey import EmbeddedValkey
from worker.generation.image_counter import ImageCounter
from worker.ledger.job_counters import read_job_counters


def test_images_are_counted_once_however_often_redis_is_told(redis: Redis) -> None:
    with ImageCounter(redis, "shoes") as counter:
        for _ in range(10):
            counter.add(8)
    assert read_job_counters(redis).images == {"shoes": 80}


def test_images_of_an_outage_are_counted_after_it(tmp_path: Path) -> None:
    with (
        EmbeddedValkey(tmp_path) as valkey,
        Redis.from_url(valkey.url, decode_responses=True) as redis,
    ):
        with ImageCounter(redis, "shoes") as counter:
            redis.config_set("maxmemory", 1)  # it refuses writes
            counter.add(8)
            assert read_job_counters(redis).images == {}
            redis.config_set("maxmemory", 0)
            counter.add(8)  # not asked again at once
            assert read_job_counters(redis).images == {}
        assert read_job_counters(redis).images == {"shoes": 16}
