"""The delivery of webhooks: a loop in every API process, of which one sees to each delivery.

A process that dies in the middle leaves its turn to run out, and the attempt is made again: a
receiver may be told twice, under the same `webhook-id`, but never not at all.
"""

import logging
import time
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
from app.webhook_sender import ANSWER_S, Sender
from worker.jobs import JobRecord
from worker.queue import JobQueue
from worker.records import JobNotFound, RecordDamaged
from worker.signing import parse_secrets, signed_headers, stored_secret
from worker.storage import StorageError
from worker.webhooks import BACKOFF_S, Mark, is_announced, message_id, webhook

logger = logging.getLogger(__name__)

TURN_S = 3 * ANSWER_S  # for one attempt, and for writing down what became of it


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast deliveries go."""

    poll_s: float = 2.0
    backoff_s: tuple[float, ...] = BACKOFF_S
    at_once: int = 32
    per_receiver: int = 8  # of those: one that is slow leaves room for the others


class Deliverer:
    """What this process delivers."""

    def __init__(self, jobs: JobQueue, sender: Sender, pace: Pace = Pace()) -> None:
        self.jobs = jobs
        self.leases = jobs.leases
        self.records = jobs.ledger.records
        self.deliveries = jobs.ledger.deliveries
        self.sender = sender
        self.pace = pace
        self.running: dict[str, str] = {}  # receivers' hosts by the ids of jobs

    @cached_property
    def secrets(self) -> list[str]:
        """What everything is signed with, the newest first."""
        configured = parse_secrets(self.jobs.settings.webhook_secret)
        return configured or [stored_secret(self.records.storage)]

    async def run(self) -> None:
        """Deliver whatever becomes due, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    if await anyio.to_thread.run_sync(self._has_turn):
                        await self.start_due(tasks)
                except (RedisError, StorageError) as error:
                    logger.warning("cannot look for webhooks to deliver: %s", error)
                await anyio.sleep(self.pace.poll_s)

    async def start_due(self, tasks: TaskGroup) -> None:
        """Start each delivery that is due and has room; where one ends soon, the next."""
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
            with anyio.move_on_after(self.pace.poll_s):
                await ended.wait()

    def _has_turn(self) -> bool:
        # A little less, so that a process that comes by every `poll_s` does not just miss it.
        return self.leases.take_turn("webhooks", 0.8 * self.pace.poll_s)

    def _pick(self, running: dict[str, str], tried: set[str]) -> list[tuple[Mark, JobRecord]]:
        """What there is room for."""
        picked = []
        for mark in self.deliveries.due():
            if len(running) >= self.pace.at_once:
                break
            if mark.job_id in tried or mark.job_id in running:
                continue
            record = self._announced(mark)
            if record is None:
                continue
            host = _host(record)
            if list(running.values()).count(host) < self.pace.per_receiver:
                running[mark.job_id] = host
                picked.append((mark, record))
        return picked

    def _announced(self, mark: Mark) -> JobRecord | None:
        """The job whose end a mark says is to be announced, where there is one."""
        try:
            record = self.records.read(mark.job_id)
        except RecordDamaged as error:
            logger.error("%s", error)
            return None
        except JobNotFound:  # whoever has deleted its record wants nothing more of it
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
                    self.deliveries.add, record, attempt, self.pace.backoff_s
                )
                await anyio.to_thread.run_sync(self.deliveries.settle, mark, delivery)
                with suppress(RedisError):  # else the turn runs out
                    await anyio.to_thread.run_sync(self.leases.end_turn, _duty(record))
        except (RedisError, StorageError) as error:
            logger.warning("the webhook of %s is delivered later: %s", record.id, error)
        finally:
            del self.running[mark.job_id]
            ended.set()

    def _begin(self, mark: Mark, record: JobRecord) -> bool:
        """Whether this process is to make an attempt now."""
        if not self.leases.take_turn(_duty(record), TURN_S):
            return False
        delivery = self.deliveries.read(record)  # not before: another may just have been at it
        if delivery.is_due:
            return True
        self.deliveries.settle(mark, delivery)
        self.leases.end_turn(_duty(record))
        return False

    def _headers(self, record: JobRecord, body: bytes) -> dict[str, str]:
        signed = signed_headers(self.secrets, message_id(record.id), int(time.time()), body)
        agent = f"Vitrine/{version('vitrine')}"
        return {**signed, "content-type": "application/json", "user-agent": agent}


def _host(record: JobRecord) -> str:
    return str(Url(webhook(record).url).host)


def _duty(record: JobRecord) -> str:
    return f"webhook:{record.id}"
