"""Webhook routes: delivery status, redelivery, and the secrets that sign webhooks."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel

from app.dependencies import JSON, ServicesDep
from app.errors import can_answer
from app.routers.jobs import EITHER, MANAGE, JobDep
from app.schemas import JobView
from worker.schemas.jobs import JobRecord
from worker.webhooks.deliveries import (
    Delivery,
    DeliveryAttempt,
    message_id,
    webhook,
)

router = APIRouter(tags=["webhooks"])
outgoing = APIRouter()  # the requests to receivers, for the OpenAPI document only


class WebhookDelivery(BaseModel):
    """Delivery status of a job's webhook."""

    webhook_id: str
    url: str
    status: Literal["pending", "delivered", "failed"]
    attempts: list[DeliveryAttempt]
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
    """The signing secrets, newest first; each webhook is signed with all of them."""

    secrets: list[str]


@router.get("/jobs/{job_id}/webhook", dependencies=[EITHER, JSON])
def read_webhook(record: JobDep, services: ServicesDep) -> WebhookDelivery:
    """A job's webhook: each attempt with the answer's status code, or why there was none.

    `pending` until the receiver answers 2xx; `failed` after 410, or nine attempts in 45 minutes.
    Before the job has ended it is `pending` without a next attempt.
    """
    return WebhookDelivery.of(record, services.queue.ledger.deliveries.read(record))


@router.post(
    "/jobs/{job_id}/webhook/redeliver",
    status_code=202,
    responses=can_answer(409),
    dependencies=[EITHER, JSON],
)
def redeliver_webhook(record: JobDep, services: ServicesDep) -> WebhookDelivery:
    """Send a job's webhook again, whatever its status, with as many attempts as the first time.

    It keeps its `webhook-id`, by which receivers recognise duplicates.
    """
    return WebhookDelivery.of(record, services.queue.ledger.deliveries.redeliver(record))


@router.get("/webhooks/secret", dependencies=[MANAGE, JSON])
def read_webhook_secret(services: ServicesDep, response: Response) -> WebhookSecrets:
    """The secrets by which receivers verify signatures (Standard Webhooks).

    Every webhook carries a signature by each secret; a receiver needs only one of them.
    """
    response.headers["Cache-Control"] = "no-store"
    return WebhookSecrets(secrets=services.webhooks.secrets)


@outgoing.post("job-ended")
def job_ended(
    job: JobView,
    webhook_id: Annotated[str, Header(description="The same for all attempts.")],
    webhook_timestamp: Annotated[str, Header(description="Seconds since 1970.")],
    webhook_signature: Annotated[
        str, Header(description="`v1,` and base64 of HMAC-SHA256; several are set apart by spaces.")
    ],
) -> None:
    """A job has ended. The body equals the answer to `GET /jobs/{id}`.

    Answer 2xx within 10 s. Any other answer but 410 is retried, for 45 minutes. Verify the
    signature with any Standard Webhooks library, and ignore a `webhook-id` received before.
    """
