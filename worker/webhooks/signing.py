"""Webhook signatures by HMAC-SHA256 and their secrets (https://www.standardwebhooks.com).

For secret rotation, several secrets sign each message while receivers change to the new one.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from contextlib import suppress

from worker.storage import ObjectExists, Storage, StorageError

PREFIX = "whsec_"
STORED = "webhooks/secret"
MIN_BYTES, MAX_BYTES, MADE_BYTES = 24, 64, 32
MALFORMED = (
    "each secret must be whsec_ and the base64 of 24 to 64 random bytes; make one with"
    ' echo "whsec_$(openssl rand -base64 32)"'
)


def parse_secrets(text: str) -> list[str]:
    """The secrets of a comma-separated list, in its order.

    Raises:
        ValueError: one of them is malformed.
    """
    found = [part for part in (part.strip() for part in text.split(",")) if part]
    for secret in found:
        _key(secret)
    return found


def stored_secret(storage: Storage) -> str:
    """The secret of a service without a configured one: made once and kept in object storage."""
    made = PREFIX + base64.b64encode(secrets.token_bytes(MADE_BYTES)).decode()
    with suppress(ObjectExists):
        storage.create(STORED, made.encode())
    try:
        [stored] = parse_secrets(storage.read(STORED).decode())
    except ValueError as error:
        raise StorageError("the stored webhook secret is damaged") from error
    return stored


def signed_headers(
    signing_secrets: list[str], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """The headers by which a receiver verifies the sender, the time and the content of `body`."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    signatures = [hmac.digest(_key(secret), content, hashlib.sha256) for secret in signing_secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(
            f"v1,{base64.b64encode(signature).decode()}" for signature in signatures
        ),
    }


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(MALFORMED) from error
    if not secret.startswith(PREFIX) or not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ValueError(MALFORMED)
    return key
