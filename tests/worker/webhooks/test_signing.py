"""Webhook signatures that receivers can verify, and secrets that are made once."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import standardwebhooks
from pydantic import ValidationError

from worker.settings import Settings, explain
from worker.storage import Storage, StorageError
from worker.webhooks.signing import (
    MALFORMED,
    STORED,
    parse_secrets,
    signed_headers,
    stored_secret,
)

NEW, OLD = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
BODY = '{"id": "job_1", "category": "Stiefel für Männer"}'.encode()


def test_a_signature_is_what_the_standard_says() -> None:
    # The known answer of the specification's own example.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed_headers(
        [secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("known", [NEW, OLD])
def test_while_a_secret_is_replaced_both_verify(known: str) -> None:
    headers = signed_headers(parse_secrets(f"{NEW}, {OLD}"), "msg_1", int(time.time()), BODY)
    receiver = standardwebhooks.Webhook(known)
    assert receiver.verify(BODY, headers)["id"] == "job_1"
    for forged in (BODY + b" ", BODY.replace(b"job_1", b"job_2")):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            receiver.verify(forged, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.verify(BODY, headers | {"webhook-id": "msg_2"})


@pytest.mark.parametrize(
    "secret",
    [
        "secret",
        "whsec_",
        "whsec_not base64!",
        NEW.removeprefix("whsec_"),
        f"whsec_{base64.b64encode(bytes(23)).decode()}",
        f"whsec_{base64.b64encode(bytes(65)).decode()}",
        f"{NEW},whsec_short",
    ],
)
def test_a_malformed_secret_is_refused_with_how_to_make_one(secret: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(webhook_secret=secret)
    assert explain(error.value) == f"VITRINE_WEBHOOK_SECRET: {MALFORMED}"
    assert "openssl rand" in MALFORMED


@pytest.mark.parametrize("length", [24, 64])
def test_secrets_of_all_allowed_lengths_are_taken(length: int) -> None:
    secret = f"whsec_{base64.b64encode(bytes(length)).decode()}"
    settings = Settings(webhook_secret=secret)
    assert parse_secrets(settings.webhook_secret) == [secret]
    assert secret not in repr(settings)


def test_a_service_without_a_secret_makes_one_for_all_its_processes(storage: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: stored_secret(storage), range(32)))
    assert len(made) == 1
    assert parse_secrets(made.pop())


def test_a_damaged_stored_secret_is_a_fault_of_the_store(storage: Storage) -> None:
    storage.put(STORED, b"whsec_")
    with pytest.raises(StorageError, match="damaged"):
        stored_secret(storage)
