"""Webhook delivery loop: runs in every API process; a lease ("turn") keeps attempts exclusive.

If a process dies in the middle of an attempt, its turn expires and the attempt is repeated:
delivery is at least once, each time under the same `webhook-id`.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from pydantic_core import Url
from redis import RedisError

from app.schemas import JobView
from app.webhooks.sender import ANSWER_S, Sender
from worker.ledger.records import JobNotFound
from worker.queue.queue import JobQueue
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import JobRecord
from worker.storage import StorageError
from worker.webhooks.deliveries import (
    BACKOFF_S,
    Mark,
    is_announced,
    message_id,
    webhook,
)
from worker.webhooks.signing import parse_secrets, signed_headers, stored_secret

logger = logging.getLogger(__name__)

TURN_S = 3 * ANSWER_S  # for one attempt, and for storing its outcome


@dataclass(frozen=True, kw_only=True)
class DeliveryTiming:
    """Intervals and concurrency limits of deliveries."""

    poll_s: float = 2.0
    backoff_s: tuple[float, ...] = BACKOFF_S
    at_once: int = 32
    per_receiver: int = 8  # of those, so that a slow receiver leaves room for others


class DeliveryLoop:
    """Delivers due webhooks from this process."""

    def __init__(
        self, jobs: JobQueue, sender: Sender, timing: DeliveryTiming = DeliveryTiming()
    ) -> None:
        self.jobs = jobs
        self.leases = jobs.leases
        self.records = jobs.ledger.records
        self.deliveries = jobs.ledger.deliveries
        self.sender = sender
        self.timing = timing
        self.running: dict[str, str] = {}  # the receiver's host by job id

    @cached_property
    def secrets(self) -> list[str]:
        """Signing secrets, newest first: the configured ones, else the stored one."""
        configured = parse_secrets(self.jobs.settings.webhook_secret)
        return configured or [stored_secret(self.records.storage)]

    async def run(self, round_done: Callable[[], object]) -> None:
        """Poll for due webhooks and deliver them, until cancelled; calls `round_done` each time."""
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    if await anyio.to_thread.run_sync(self._has_turn):
                        await self.start_due(tasks)
                except (RedisError, StorageError) as error:
                    logger.warning("cannot look for webhooks to deliver: %s", error)
                round_done()
                await anyio.sleep(self.timing.poll_s)

    async def start_due(self, tasks: TaskGroup) -> None:
        """Start due deliveries within the limits; as one ends within `poll_s`, start the next."""
        tried: set[str] = set()
        while True:
            ended = anyio.Event()
            picked = await anyio.to_thread.run_sync(self._pick, dict(self.running), tried)
            for mark, record in picked:
                tried.add(mark.job_id)
                self.running[mark.job_id] = _host(record)
                tasks.start_soon(self._deliver, mark, record, ended)
            if not picked:
                return
            with anyio.move_on_after(self.timing.poll_s):
                await ended.wait()

    def _has_turn(self) -> bool:
        # A little less, so that the turn has expired when a process polls again after `poll_s`.
        return self.leases.take_turn("webhooks", 0.8 * self.timing.poll_s)

    def _pick(self, running: dict[str, str], tried: set[str]) -> list[tuple[Mark, JobRecord]]:
        """Due deliveries, as many as the limits permit."""
        picked = []
        for mark in self.deliveries.due():
            if len(running) >= self.timing.at_once:
                break
            if mark.job_id in tried or mark.job_id in running:
                continue
            record = self._job_of(mark)
            if record is None:
                continue
            host = _host(record)
            if list(running.values()).count(host) < self.timing.per_receiver:
                running[mark.job_id] = host
                picked.append((mark, record))
        return picked

    def _job_of(self, mark: Mark) -> JobRecord | None:
        """The job that a mark refers to; None if it is gone or has no webhook to deliver."""
        try:
            record = self.records.read(mark.job_id)
        except RecordDamaged:  # it has been reported
            return None
        except JobNotFound:  # the record was deleted: there is nothing left to announce
            self.deliveries.remove(mark)
            return None
        return record if is_announced(record) else None

    async def _deliver(self, mark: Mark, record: JobRecord, ended: anyio.Event) -> None:
        try:
            if await anyio.to_thread.run_sync(self._begin, mark, record):
                body = JobView.of(record, None).model_dump_json().encode()
                headers = await anyio.to_thread.run_sync(self._headers, record, body)
                attempt = await self.sender.post(webhook(record).url, headers, body)
                outcome = attempt.status_code or attempt.error
                logger.info("webhook of %s: %s", record.id, outcome)
                delivery = await anyio.to_thread.run_sync(
                    self.deliveries.add, record, attempt, self.timing.backoff_s
                )
                await anyio.to_thread.run_sync(self.deliveries.settle, mark, delivery)
                with suppress(RedisError):  # then the turn expires by itself
                    await anyio.to_thread.run_sync(self.leases.end_turn, _lease_name(record))
        except RecordDamaged:  # it has been reported; the turn expires by itself
            pass
        except (RedisError, StorageError) as error:
            logger.warning("the webhook of %s is delivered later: %s", record.id, error)
        except Exception:  # raising would break off all other deliveries
            logger.exception("delivering the webhook of %s failed by a fault", record.id)
        finally:
            del self.running[mark.job_id]
            ended.set()

    def _begin(self, mark: Mark, record: JobRecord) -> bool:
        """Take the turn for a delivery; returns whether an attempt is due now."""
        if not self.leases.take_turn(_lease_name(record), TURN_S):
            return False
        # Read under the turn: another process may just have made an attempt.
        delivery = self.deliveries.read(record)
        if delivery.is_due:
            return True
        self.deliveries.settle(mark, delivery)
        self.leases.end_turn(_lease_name(record))
        return False

    def _headers(self, record: JobRecord, body: bytes) -> dict[str, str]:
        signed = signed_headers(self.secrets, message_id(record.id), int(time.time()), body)
        agent = f"Vitrine/{version('vitrine')}"
        return {**signed, "content-type": "application/json", "user-agent": agent}


def _host(record: JobRecord) -> str:
    return str(Url(webhook(record).url).host)


def _lease_name(record: JobRecord) -> str:
    return f"webhook:{record.id}"
