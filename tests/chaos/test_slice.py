"""A small seeded slice of `make chaos`; each part asserts that its faults really happened."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.damage import damage_objects
from tests.chaos.freezes import freeze_jobs
from tests.chaos.kills import kill_jobs
from tests.chaos.outages import kill_redis
from tests.chaos.power import recorder
from tests.chaos.power.cuts import Recorded, cut_power, record
from tests.chaos.promises import outstanding
from tests.chaos.redis_errors import refuse
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


def test_a_training_outlasts_every_error_that_redis_answers(
    tmp_path: Path, server: S3Server
) -> None:
    # With the usual lease: only Redis is to fail, not a process that gets no processor for seconds.
    with closing(World(tmp_path, server, "errors")) as world:
        result = refuse(world, 1.5)
    assert min(result.errors.values()) > 0
    assert len(result.errors) == 4
    assert (result.attempts, result.deaths) == (1, 0)
    assert result.steps > 0
    assert result.answers.keys() <= {202, 503}
    assert result.verdict.complaints == []


def test_a_job_outlasts_a_store_that_fails_at_any_call(tmp_path: Path) -> None:
    result = harm_every_call(tmp_path, 1, 6)
    assert sum(result.fired.values()) == 6
    assert (result.failed, result.different) == ([], 0)
    assert result.verdict.complaints == []


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run of the whole service with one client."""
    if not recorder.is_possible():
        pytest.skip(recorder.NEEDS)
    return record(tmp_path_factory.mktemp("recorded"), clients=1)


def test_what_was_answered_with_2xx_is_there_after_a_power_cut(
    tmp_path: Path, recorded: Recorded
) -> None:
    result = cut_power(recorded, tmp_path, seed=1, most=12)
    assert result.broken == []
    assert result.cuts >= 24
    assert result.promises > 100
    assert result.names_at_risk > 0


def test_one_damaged_object_takes_no_other_along(tmp_path: Path, recorded: Recorded) -> None:
    [promises] = recorded.promises
    due = outstanding(promises, {promise.request_id for promise in promises})
    result = damage_objects(recorded.data, due, tmp_path, seed=1, most=16)
    assert result.complaints == []
    assert sum(result.done.values()) == 16
    assert result.noticed > 0
    assert result.stray > 100
