"""Webhook deliveries: what is announced, and that a crash at any point loses no delivery."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.attempt.attempt import Attempt
from worker.queue.queue import JobQueue
from worker.queue.reconciler import reconcile
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import (
    JobRecord,
    JobStatus,
    move,
    now,
)
from worker.schemas.requests import TrainJob
from worker.schemas.webhook_request import JobEnd, Webhook
from worker.storage import Storage
from worker.webhooks.deliveries import (
    ATTEMPTS_KEPT,
    BACKOFF_S,
    DELIVERIES,
    JITTER,
    PENDING,
    Deliveries,
    DeliveryAttempt,
    NotAnnounced,
    NoWebhook,
    message_id,
)
from worker.webhooks.targets import TargetRefused

BACKOFF = (0.0, 0.0)


@pytest.fixture
def deliveries(storage: Storage) -> Deliveries:
    return Deliveries(storage)


@pytest.fixture
def jobs(jobs: JobQueue) -> JobQueue:
    """A queue whose DNS lookups return a public address for every host."""
    jobs.targets.lookup = lambda _host, _port: ["93.184.216.34"]
    return jobs


def submit(jobs: JobQueue, *events: JobEnd, url: str = "https://shop.example/hook") -> JobRecord:
    """A job with a webhook for these events, or without one where there are none."""
    webhook = Webhook(url=url, events=list(events)) if events else None
    request = TrainJob(dataset="ds_00000000000000sample", model="m", webhook=webhook)
    return jobs.submit("train", request)


def failed(status_code: int = 500) -> DeliveryAttempt:
    return DeliveryAttempt(at=now(), status_code=status_code)


def succeeded() -> DeliveryAttempt:
    return DeliveryAttempt(at=now(), status_code=204)


def due(deliveries: Deliveries) -> list[str]:
    return [mark.job_id for mark in deliveries.due()]


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_each_end_is_announced_to_who_wants_it(
    jobs: JobQueue, deliveries: Deliveries, end: JobEnd
) -> None:
    wanted = submit(jobs, end)
    ends: tuple[JobEnd, ...] = ("succeeded", "failed", "cancelled")
    others = [submit(jobs), submit(jobs, *(other for other in ends if other != end))]
    assert due(deliveries) == []
    for record in (wanted, *others):
        if end == "cancelled":
            jobs.cancel(record.id)
            continue
        claimed = jobs.ledger.claim(record.id, "delivery-1")
        assert claimed is not None
        attempt = Attempt(jobs.ledger, claimed)
        if end == "succeeded":
            attempt.succeed({})
        else:
            attempt.fail("diverged", "it did")
    assert due(deliveries) == [wanted.id]
    delivery = deliveries.read(jobs.fetch(wanted.id))
    assert (delivery.status, delivery.attempts, delivery.is_due) == ("pending", [], True)


def test_an_end_whose_process_died_before_it_could_tidy_up_is_announced(
    jobs: JobQueue, deliveries: Deliveries
) -> None:
    record = submit(jobs, "cancelled")
    jobs.ledger.records.append(move(record, "cancelled"))
    assert due(deliveries) == []
    reconcile(jobs)
    assert due(deliveries) == [record.id]
    assert not jobs.ledger.records.is_marked(record.id)


def test_an_end_is_announced_before_its_job_is_forgotten(
    jobs: JobQueue, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = submit(jobs, "cancelled")

    def die(_job_id: str) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(jobs.ledger.records, "close", die)
        with pytest.raises(SystemExit):
            jobs.cancel(record.id)
    assert due(deliveries) == [record.id]
    reconcile(jobs)
    assert due(deliveries) == [record.id]
    assert not jobs.ledger.records.is_marked(record.id)


def test_an_end_that_is_tidied_up_again_later_is_not_announced_again(
    jobs: JobQueue, deliveries: Deliveries
) -> None:
    record = submit(jobs, "cancelled")
    ended = jobs.ledger.records.append(move(record, "cancelled"))
    reconcile(jobs)
    [mark] = deliveries.due()
    deliveries.settle(mark, deliveries.add(ended, succeeded(), BACKOFF))
    assert due(deliveries) == []
    jobs.ledger.deliveries.open(ended)  # by a process that was frozen meanwhile
    [stale] = deliveries.due()
    delivery = deliveries.read(ended)
    assert (delivery.status, delivery.is_due) == ("delivered", False)
    deliveries.settle(stale, delivery)
    assert due(deliveries) == []


def test_a_job_whose_receiver_is_refused_is_not_made(jobs: JobQueue) -> None:
    with pytest.raises(TargetRefused):
        submit(jobs, "failed", url="http://shop.example/hook")
    assert jobs.ledger.records.ids() == []


def ended(jobs: JobQueue) -> JobRecord:
    return jobs.cancel(submit(jobs, "cancelled").id)


def test_attempts_go_on_for_forty_five_minutes(jobs: JobQueue, deliveries: Deliveries) -> None:
    record = ended(jobs)
    assert 2700 <= sum(BACKOFF_S) <= 2760
    for number, pause_s in enumerate(BACKOFF_S, start=1):
        delivery = deliveries.add(record, failed(), BACKOFF_S)
        assert (delivery.status, len(delivery.attempts)) == ("pending", number)
        assert delivery.next_attempt_at is not None
        wait_s = (delivery.next_attempt_at - now()).total_seconds()
        assert pause_s - 1 < wait_s <= pause_s * (1 + JITTER)
    last = deliveries.add(record, failed(), BACKOFF_S)
    assert (last.status, last.next_attempt_at, len(last.attempts)) == ("failed", None, 9)


@pytest.mark.parametrize(
    ("status_code", "status"),
    [
        *((code, "delivered") for code in (200, 201, 202, 204, 299)),
        *((code, "pending") for code in (199, 300, 302, 308, 400, 401, 404, 408, 429, 500, 503)),
        (410, "failed"),
    ],
)
def test_an_answer_ends_a_delivery_or_it_is_tried_again(
    jobs: JobQueue, deliveries: Deliveries, status_code: int, status: str
) -> None:
    delivery = deliveries.add(ended(jobs), failed(status_code), BACKOFF)
    assert delivery.status == status
    assert (delivery.next_attempt_at is not None) == (status == "pending")


def test_the_next_attempt_waits_for_its_time(
    jobs: JobQueue, deliveries: Deliveries, storage: Storage
) -> None:
    record, other = ended(jobs), ended(jobs)
    mark = next(deliveries.due())
    assert mark.job_id == record.id
    later = deliveries.add(record, failed(), (600.0,))
    deliveries.settle(mark, later)
    assert due(deliveries) == [other.id]
    assert len(list(storage.keys(PENDING))) == 2  # no mark is left behind
    assert deliveries.read(record) == later


def test_a_mark_that_is_older_than_the_state_is_put_right(
    jobs: JobQueue, deliveries: Deliveries, storage: Storage
) -> None:
    record = ended(jobs)
    deliveries.add(record, failed(), (600.0,))  # and then the process died
    [stale] = deliveries.due()
    deliveries.settle(stale, deliveries.read(record))
    assert due(deliveries) == []
    assert len(list(storage.keys(PENDING))) == 1


def test_what_several_processes_write_at_once_is_all_kept(jobs: JobQueue, storage: Storage) -> None:
    record = ended(jobs)
    codes = [500, 501, 200, 502, 503]

    def attempt(status_code: int) -> None:
        Deliveries(storage).add(record, failed(status_code), BACKOFF_S)

    with ThreadPoolExecutor(len(codes)) as pool:
        list(pool.map(attempt, codes))
    delivery = Deliveries(storage).read(record)
    assert sorted(code for a in delivery.attempts if (code := a.status_code)) == sorted(codes)
    assert (delivery.status, delivery.revision) == ("delivered", len(codes))


@pytest.mark.parametrize("outcome", [succeeded, failed])
def test_a_redelivery_starts_anew_and_keeps_what_was(
    jobs: JobQueue, deliveries: Deliveries, outcome: object
) -> None:
    record = ended(jobs)
    [mark] = deliveries.due()
    assert callable(outcome)
    deliveries.settle(mark, deliveries.add(record, outcome(), ()))
    assert due(deliveries) == []
    delivery = deliveries.redeliver(record)
    assert (delivery.status, delivery.failures, len(delivery.attempts)) == ("pending", 0, 1)
    assert due(deliveries) == [record.id]
    assert deliveries.redeliver(record) == delivery  # asked twice, it is sent once
    assert due(deliveries) == [record.id]


def test_a_redelivery_does_not_wait_for_the_next_attempt(
    jobs: JobQueue, deliveries: Deliveries
) -> None:
    record = ended(jobs)
    [mark] = deliveries.due()
    deliveries.settle(mark, deliveries.add(record, failed(), (600.0,)))
    deliveries.redeliver(record)
    assert due(deliveries) == [record.id]


@pytest.mark.parametrize("status", ["queued", "cancelled"])
def test_only_what_was_announced_is_announced_again(
    jobs: JobQueue, deliveries: Deliveries, status: JobStatus
) -> None:
    with_another_event, without = submit(jobs, "failed"), submit(jobs)
    if status == "cancelled":
        with_another_event, without = (jobs.cancel(r.id) for r in (with_another_event, without))
        with pytest.raises(NoWebhook):
            deliveries.read(with_another_event)
    with pytest.raises(NotAnnounced, match=f"the job is {status}"):
        deliveries.redeliver(with_another_event)
    with pytest.raises(NoWebhook):
        deliveries.redeliver(without)
    with pytest.raises(NoWebhook):
        deliveries.read(without)


def test_only_the_last_attempts_are_kept(jobs: JobQueue, deliveries: Deliveries) -> None:
    record = ended(jobs)
    for number in range(ATTEMPTS_KEPT + 2):
        deliveries.add(record, failed(400 + number), BACKOFF)
    codes = [attempt.status_code for attempt in deliveries.read(record).attempts]
    assert codes == list(range(402, 402 + ATTEMPTS_KEPT))


def test_a_damaged_state_is_a_fault_of_the_store(
    jobs: JobQueue, deliveries: Deliveries, storage: Storage
) -> None:
    record = ended(jobs)
    storage.put(f"{DELIVERIES}/{record.id}/000001.json", b'{"job_id":')
    with pytest.raises(RecordDamaged, match=record.id):
        deliveries.read(record)


def test_what_is_no_mark_is_passed_over(
    jobs: JobQueue, deliveries: Deliveries, storage: Storage
) -> None:
    storage.put(f"{PENDING}/00000000000000-readme.txt", b"")
    record = ended(jobs)
    assert due(deliveries) == [record.id]


def test_an_announcement_is_known_by_its_job() -> None:
    assert message_id("job_00000000000000000000") == "msg_00000000000000000000"
