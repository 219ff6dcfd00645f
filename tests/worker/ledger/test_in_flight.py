"""In-flight lease: one holder at a time, until it ends or dies."""

import time

import pytest
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.ledger.in_flight import RequestInFlight, in_flight
from worker.ledger.leases import Leases


def test_the_second_is_refused_until_the_first_has_ended(redis: Redis) -> None:
    leases = Leases(redis, 10)
    with in_flight(leases, "a"):
        with pytest.raises(RequestInFlight), in_flight(leases, "a"):
            pass
        with in_flight(leases, "b"):
            pass
    with in_flight(leases, "a"):
        pass


def test_one_that_fails_holds_nothing(redis: Redis) -> None:
    leases = Leases(redis, 10)
    with pytest.raises(ZeroDivisionError), in_flight(leases, "a"):
        raise ZeroDivisionError
    assert redis.keys() == []


def test_it_is_held_for_longer_than_a_lease_and_blocks_no_longer_than_one(redis: Redis) -> None:
    leases = Leases(redis, 0.4)
    with in_flight(leases, "a"):
        time.sleep(0.8)
        with pytest.raises(RequestInFlight), in_flight(leases, "a"):
            pass
    redis.set("vitrine:in-flight:a", "of a process that died", px=400)
    time.sleep(0.5)
    with in_flight(leases, "a"):
        pass


def test_without_redis_the_work_goes_on() -> None:
    with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nowhere, in_flight(Leases(nowhere, 10), "a"):
        pass


def test_work_that_needs_redis_does_not() -> None:
    with (
        Redis(port=1, retry=Retry(NoBackoff(), 0)) as nowhere,
        pytest.raises(RedisError),
        in_flight(Leases(nowhere, 10), "a", needs_redis=True),
    ):
        pass
