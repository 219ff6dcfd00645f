"""Delivery loop: retries, final states, restarts, and one attempt among many processes."""

import time
from collections.abc import Callable
from datetime import datetime

import anyio
import pytest
import standardwebhooks

from app.webhooks.delivery_loop import DeliveryLoop, DeliveryTiming
from app.webhooks.sender import Sender
from tests.receiver import Receiver, receiving
from worker.queue.queue import JobQueue
from worker.queue.reconciler import reconcile
from worker.schemas.jobs import JobRecord, move
from worker.schemas.requests import TrainJob
from worker.schemas.webhook_request import Webhook
from worker.storage import Storage
from worker.webhooks.deliveries import DELIVERIES, Delivery
from worker.webhooks.targets import WebhookTargets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT_ONCE = (0.0, 0.0, 0.0)  # pauses between four attempts

StartDeliverer = Callable[..., DeliveryLoop]


@pytest.fixture
def jobs(jobs: JobQueue) -> JobQueue:
    jobs.targets.private = True
    return jobs


@pytest.fixture
def start(jobs: JobQueue) -> StartDeliverer:
    """Makes a delivery loop, as each API process has one."""

    def make(answer_s: float = 10, **timing: float | tuple[float, ...]) -> DeliveryLoop:
        jobs.settings = jobs.settings.model_copy(update={"webhook_secret": SECRET})
        sender = Sender(WebhookTargets(private=True), answer_s=answer_s)
        return DeliveryLoop(jobs, sender, DeliveryTiming(**{"backoff_s": AT_ONCE, **timing}))  # type: ignore[arg-type] # mixed values

    return make


def ended(jobs: JobQueue, url: str) -> JobRecord:
    """A job that has ended, whose webhook is due."""
    webhook = Webhook(url=url)
    request = TrainJob(dataset="ds_00000000000000sample", model="m", webhook=webhook)
    return jobs.cancel(jobs.submit("train", request).id)


def deliver(*deliverers: DeliveryLoop) -> None:
    """Run one round of each delivery loop, all concurrently."""

    async def round_of_all() -> None:
        async with anyio.create_task_group() as tasks:
            for deliverer in deliverers:
                tasks.start_soon(deliverer.start_due, tasks)

    anyio.run(round_of_all)


def state(jobs: JobQueue, record: JobRecord) -> Delivery:
    return jobs.ledger.deliveries.read(record)


def outcomes(jobs: JobQueue, record: JobRecord) -> list[int | str | None]:
    return [attempt.status_code or attempt.error for attempt in state(jobs, record).attempts]


def ids(receiver: Receiver) -> list[str]:
    return [received.headers["webhook-id"] for received in receiver.received]


def test_an_end_is_announced_with_a_signature_that_others_verify(
    jobs: JobQueue, start: StartDeliverer
) -> None:
    with receiving() as receiver:
        record = ended(jobs, receiver.url)
        deliver(start())
    [received] = receiver.received
    job = standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
    assert (job["id"], job["status"]) == (record.id, "cancelled")
    assert received.headers["content-type"] == "application/json"
    assert state(jobs, record).status == "delivered"
    assert outcomes(jobs, record) == [200]


def test_what_fails_is_tried_again_under_the_same_id(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving(500, 302, 200) as receiver:
        record = ended(jobs, receiver.url)
        for _ in range(5):
            deliver(start())
    assert outcomes(jobs, record) == [500, 302, 200]
    assert ids(receiver) == [f"msg_{record.id.removeprefix('job_')}"] * 3
    for received in receiver.received:
        standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)


def test_after_the_last_attempt_it_is_kept_as_failed(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving(500) as receiver:
        record = ended(jobs, receiver.url)
        for _ in range(6):
            deliver(start())
    assert len(receiver.received) == 4
    assert (state(jobs, record).status, outcomes(jobs, record)) == ("failed", [500] * 4)


def test_a_receiver_that_is_gone_is_told_no_more(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving(410) as receiver:
        record = ended(jobs, receiver.url)
        for _ in range(2):
            deliver(start())
    assert (state(jobs, record).status, outcomes(jobs, record)) == ("failed", [410])


def test_an_attempt_that_gets_no_answer_is_one_that_failed(
    jobs: JobQueue, start: StartDeliverer
) -> None:
    with receiving(pause_s=1) as receiver:
        record = ended(jobs, receiver.url)
        deliver(start(answer_s=0.2))
        delivery = state(jobs, record)
    assert (delivery.status, outcomes(jobs, record)) == ("pending", ["timed out"])
    assert isinstance(delivery.next_attempt_at, datetime)


def test_a_restart_goes_on_where_it_was(
    jobs: JobQueue, start: StartDeliverer, storage: Storage
) -> None:
    with receiving(500, 200) as receiver:
        record = ended(jobs, receiver.url)
        deliver(start(backoff_s=(0.5, 1.0)))
        jobs.leases.redis.flushall()  # what is left is in storage
        deliver(start())
        assert outcomes(jobs, record) == [500]  # the next attempt is not due yet
        time.sleep(0.6)
        deliver(start())
    assert outcomes(jobs, record) == [500, 200]
    assert len(list(storage.keys(DELIVERIES))) == 2


def test_an_end_whose_process_died_at_once_is_delivered(
    jobs: JobQueue, start: StartDeliverer
) -> None:
    with receiving() as receiver:
        webhook = Webhook(url=receiver.url)
        request = TrainJob(dataset="ds_00000000000000sample", model="m", webhook=webhook)
        record = jobs.submit("train", request)
        jobs.ledger.records.append(move(record, "cancelled"))  # then the process died
        deliver(start())
        assert receiver.received == []
        reconcile(jobs)
        deliver(start())
    assert len(receiver.received) == 1


def test_an_attempt_whose_process_died_is_made_again_when_its_turn_is_over(
    jobs: JobQueue, start: StartDeliverer
) -> None:
    with receiving(pause_s=0.3) as receiver:
        record = ended(jobs, receiver.url)

        async def die_while_sending() -> None:
            with anyio.move_on_after(0.15):
                async with anyio.create_task_group() as tasks:
                    await start().start_due(tasks)

        anyio.run(die_while_sending)
        assert len(receiver.received) == 1
        deliver(start())
        assert len(receiver.received) == 1
        assert 0 < jobs.leases.redis.pttl(f"vitrine:turn:webhook:{record.id}") <= 30_000
        jobs.leases.end_turn(f"webhook:{record.id}")
        deliver(start())
    assert ids(receiver) == [ids(receiver)[0]] * 2
    assert outcomes(jobs, record) == [200]


def test_of_several_processes_one_delivers(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving(pause_s=0.1) as receiver:
        records = [ended(jobs, receiver.url) for _ in range(6)]
        deliver(*(start() for _ in range(4)))
        deliver(*(start() for _ in range(4)))
    assert len(ids(receiver)) == len(set(ids(receiver))) == 6
    assert all(outcomes(jobs, record) == [200] for record in records)


def test_a_redelivery_has_the_same_id(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving() as receiver:
        record = ended(jobs, receiver.url)
        deliver(start())
        jobs.ledger.deliveries.redeliver(record)
        deliver(start())
        deliver(start())
    assert ids(receiver) == [ids(receiver)[0]] * 2
    assert outcomes(jobs, record) == [200, 200]


def test_a_slow_receiver_does_not_hold_up_the_others(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving(pause_s=9) as slow, receiving() as quick:
        # Another name of this machine: receivers are told apart by their hosts.
        behind = slow.url.replace("127.0.0.1", "localhost")
        for _ in range(6):
            ended(jobs, behind)
        records = [ended(jobs, quick.url) for _ in range(6)]
        deliverer = start(at_once=4, per_receiver=2, poll_s=0.05)

        async def until_the_quick_one_was_told() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(deliverer.run, lambda: None)
                with anyio.fail_after(8):
                    while any(state(jobs, record).status == "pending" for record in records):
                        await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()

        anyio.run(until_the_quick_one_was_told)
        assert len(quick.received) == 6
        assert len(slow.received) <= 2


def test_no_more_than_so_many_are_under_way_at_once(jobs: JobQueue, start: StartDeliverer) -> None:
    with receiving(pause_s=0.5) as receiver:
        for _ in range(5):
            ended(jobs, receiver.url)
        deliverer = start(at_once=2, per_receiver=2, poll_s=0.05)
        for received in (2, 4, 5):
            deliver(deliverer)
            assert len(receiver.received) == received


def test_a_damaged_record_or_one_that_was_deleted_holds_up_no_other(
    jobs: JobQueue, start: StartDeliverer, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as receiver:
        damaged, deleted, unwritable, sound = (ended(jobs, receiver.url) for _ in range(4))
        storage.put(f"jobs/records/{damaged.id}/000002.json", b'{"id":')
        storage.clear(f"jobs/records/{deleted.id}")
        storage.put(f"{DELIVERIES}/{unwritable.id}/000001.json", b"{")
        jobs.ledger.records._known.clear()
        deliver(start())
    assert damaged.id in caplog.text
    assert unwritable.id in caplog.text
    assert ids(receiver) == [f"msg_{sound.id.removeprefix('job_')}"]
    assert [mark.job_id for mark in jobs.ledger.deliveries.due()] == [damaged.id, unwritable.id]


def test_a_delivery_whose_state_is_damaged_holds_up_no_other(
    jobs: JobQueue, start: StartDeliverer, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as receiver:
        damaged, sound = ended(jobs, receiver.url), ended(jobs, receiver.url)
        storage.put(f"{DELIVERIES}/{damaged.id}/000001.json", b"")
        for _ in range(2):
            deliver(start())
            jobs.leases.end_turn(f"webhook:{damaged.id}")
    assert (len(receiver.received), state(jobs, sound).status) == (1, "delivered")
    assert [r.levelname for r in caplog.records if damaged.id in r.getMessage()].count("ERROR") == 1


def test_a_fault_in_one_delivery_breaks_off_no_other(
    jobs: JobQueue, start: StartDeliverer, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as receiver:
        record = ended(jobs, receiver.url)
        deliverer = start()
        jobs.settings = jobs.settings.model_copy(update={"webhook_secret": "no secret"})
        deliver(deliverer)
        assert f"delivering the webhook of {record.id} failed by a fault" in caplog.text
        jobs.leases.end_turn(f"webhook:{record.id}")
        deliver(start())
    assert len(receiver.received) == 1
