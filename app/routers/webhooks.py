"""Webhooks: what became of one, sending it again, and the secret that receivers check it by."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel

from app.dependencies import JSON, DelivererDep, QueueDep
from app.errors import can_answer
from app.routers.jobs import EITHER, MANAGE, JobDep
from app.schemas import JobView
from worker.jobs import JobRecord
from worker.webhooks import Attempt, Delivery, message_id, webhook

router = APIRouter(tags=["webhooks"])
sent = APIRouter()  # requests that receivers get, for the document alone


class WebhookDelivery(BaseModel):
    """How far the announcement of a job's end is."""

    webhook_id: str
    url: str
    status: Literal["pending", "delivered", "failed"]
    attempts: list[Attempt]
    next_attempt_at: datetime | None

    @classmethod
    def of(cls, record: JobRecord, delivery: Delivery) -> "WebhookDelivery":
        """The view of a delivery."""
        return cls(
            webhook_id=message_id(record.id),
            url=webhook(record).url,
            status=delivery.status,
            attempts=delivery.attempts,
            next_attempt_at=delivery.next_attempt_at,
        )


class WebhookSecrets(BaseModel):
    """What webhooks are signed with, all of them at once, the newest first."""

    secrets: list[str]


@router.get("/jobs/{job_id}/webhook", dependencies=[EITHER, JSON])
def read_webhook(record: JobDep, queue: QueueDep) -> WebhookDelivery:
    """What became of a job's webhook: each attempt with the answer's status code, or why none came.

    `pending` until a receiver answers 2xx; `failed` after 410, or nine attempts in 45 minutes. It
    is `pending` without a next attempt while the job has not ended.
    """
    return WebhookDelivery.of(record, queue.ledger.deliveries.read(record))


@router.post(
    "/jobs/{job_id}/webhook/redeliver",
    status_code=202,
    responses=can_answer(409),
    dependencies=[EITHER, JSON],
)
def redeliver_webhook(record: JobDep, queue: QueueDep) -> WebhookDelivery:
    """Send a job's webhook once more, whatever became of it, with all attempts where they fail.

    It has the same `webhook-id`, so that a receiver that has had it knows it.
    """
    return WebhookDelivery.of(record, queue.ledger.deliveries.redeliver(record))


@router.get("/webhooks/secret", dependencies=[MANAGE, JSON])
def read_webhook_secret(deliverer: DelivererDep, response: Response) -> WebhookSecrets:
    """What a receiver checks signatures by, as Standard Webhooks has it.

    Every webhook carries a signature by each of these; a receiver needs to know one of them.
    """
    response.headers["Cache-Control"] = "no-store"
    return WebhookSecrets(secrets=deliverer.secrets)


@sent.post("job-ended")
def job_ended(
    job: JobView,
    webhook_id: Annotated[str, Header(description="The same for all attempts.")],
    webhook_timestamp: Annotated[str, Header(description="Seconds since 1970.")],
    webhook_signature: Annotated[
        str, Header(description="`v1,` and base64 of HMAC-SHA256; several are set apart by spaces.")
    ],
) -> None:
    """A job has ended. The body is what `GET /jobs/{id}` answers.

    Answer 2xx within 10 s. Anything else is tried again, for 45 minutes; 410 is not. Verify the
    signature with any library of Standard Webhooks, and pass over a `webhook-id` you have had.
    """
