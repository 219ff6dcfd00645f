"""A small seeded slice of `make chaos`; each part asserts that its faults really happened."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.freezes import freeze_jobs
from tests.chaos.kills import kill_jobs
from tests.chaos.outages import kill_redis
from tests.chaos.power import recorder
from tests.chaos.power.cuts import cut_power
from tests.chaos.storage_faults import harm_every_call
from tests.chaos.world import World
from tests.s3 import S3Server

LEASE_S = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


def test_a_job_killed_inside_a_checkpoint_write_ends_with_the_same_weights(
    tmp_path: Path, server: S3Server
) -> None:
    with closing(World(tmp_path, server, "killed", lease_s=LEASE_S)) as world:
        result = kill_jobs(world, 1, {"checkpoint": 1, "both": 1})
    assert result.kills == {"checkpoint": 1, "both": 1, "horse": 0, "worker": 0}
    assert (result.different, result.redone) == (0, 0)
    assert result.verdict.complaints == []
    assert result.slowest_requeue_s < 30


def test_a_frozen_process_writes_nothing_when_it_wakes_up(tmp_path: Path, server: S3Server) -> None:
    with closing(World(tmp_path, server, "frozen", lease_s=LEASE_S)) as world:
        result = freeze_jobs(world, 1, 1)
    assert (result.freezes, result.stale) == (1, [])
    assert result.verdict.complaints == []


def test_every_accepted_job_ends_though_redis_is_killed_and_wiped(
    tmp_path: Path, server: S3Server
) -> None:
    with closing(World(tmp_path, server, "redis", lease_s=LEASE_S)) as world:
        result = kill_redis(world, 1, 2)
    assert (result.redis_kills, result.wipes) == (2, 1)
    assert result.verdict.accepted >= 3
    assert result.verdict.complaints == []


def test_a_job_outlasts_a_store_that_fails_at_any_call(tmp_path: Path) -> None:
    result = harm_every_call(tmp_path, 1, 6)
    assert sum(result.fired.values()) == 6
    assert (result.failed, result.different) == ([], 0)
    assert result.verdict.complaints == []


@pytest.mark.skipif(not recorder.is_possible(), reason=recorder.NEEDS)
def test_what_was_answered_with_2xx_is_there_after_a_power_cut(tmp_path: Path) -> None:
    result = cut_power(tmp_path, seed=1, clients=1, most=12)
    assert result.broken == []
    assert result.cuts >= 24
    assert result.promises > 100
    assert result.names_at_risk > 0
