"""Idempotency keys, on files and on S3."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from worker.ledger.idempotency import (
    KEPT,
    KeyReused,
    Reservation,
    find,
    forget_old,
    keep,
    name_of,
    reserve,
)
from worker.storage import Storage


def test_a_thousand_requests_at_once_are_given_one_id(storage: Storage) -> None:
    with ThreadPoolExecutor(32) as pool:
        ids = list(pool.map(lambda _: reserve(storage, "job", "me", b"train"), range(1000)))
    assert len(set(ids)) == 1
    assert ids[0].startswith("job_")


def test_another_request_with_the_key_is_refused(storage: Storage) -> None:
    reserve(storage, "job", "me", b"train")
    with pytest.raises(KeyReused):
        reserve(storage, "job", "me", b"search")


def test_the_key_of_another_client_is_another_key(storage: Storage) -> None:
    names = {name_of(who, "k") for who in ("me", "you")}
    assert len({reserve(storage, "job", name, b"train") for name in names}) == 2


def test_an_answer_is_kept_once(storage: Storage) -> None:
    assert find(storage, "me", b"images") is None
    mine, other = (Reservation.of(b"images", "gen_1", {"seed": seed}) for seed in (1, 2))
    assert keep(storage, "me", mine) == keep(storage, "me", other) == mine
    assert find(storage, "me", b"images") == mine
    with pytest.raises(KeyReused):
        find(storage, "me", b"others")


def test_keys_last_a_day_and_are_forgotten_after_two(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = datetime(2026, 1, 1, 23, 59, tzinfo=UTC)
    monkeypatch.setattr("worker.ledger.idempotency.now", lambda: clock)
    first = reserve(storage, "job", "me", b"train")
    clock += KEPT
    forget_old(storage)
    assert reserve(storage, "job", "me", b"train") == first
    clock += KEPT
    forget_old(storage)
    assert list(storage.keys("idempotency")) == []
    assert reserve(storage, "job", "me", b"train") != first
