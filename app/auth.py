"""API keys: authentication by SHA-256 digest, authorization by scope.

`VITRINE_API_KEY_HASHES` holds entries `scope+scope:sha256hex`, separated by commas, each optionally
followed by its last day, as in `:2027-01-31`; `python -m app.keys` makes them. Without entries the
service requires no key and serves loopback only.
"""

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, NamedTuple, get_args

from fastapi.security.utils import get_authorization_scheme_param

from app.errors import Problem

Scope = Literal["generate", "manage", "metrics"]
DIGEST = re.compile("[0-9a-f]{64}")


class Key(NamedTuple):
    """Scopes and expiry of an API key."""

    scopes: frozenset[str]
    expires: date | None  # its last day, UTC

    @property
    def has_expired(self) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and datetime.now(UTC).date() > self.expires


ApiKeys = dict[str, Key]  # by SHA-256 of the key


@dataclass(frozen=True)
class ScopeRule:
    """A route's rule: its key has one of these scopes."""

    allowed: tuple[Scope, ...]


def parse_keys(text: str) -> ApiKeys:
    """The configured keys.

    Raises:
        ValueError: an entry is not of the form above.
    """
    return dict(_parse(entry) for part in text.split(",") if (entry := part.strip()))


def _parse(entry: str) -> tuple[str, Key]:
    scopes_text, _, rest = entry.partition(":")
    digest, has_day, day = rest.partition(":")
    scopes = frozenset(scopes_text.split("+"))
    try:
        expires = date.fromisoformat(day) if has_day else None
        if not DIGEST.fullmatch(digest) or not scopes <= set(get_args(Scope)):
            raise ValueError
    except ValueError:
        # The original message is dropped: it may quote a key that was pasted in place of its hash.
        raise ValueError(
            "VITRINE_API_KEY_HASHES: each entry must be scopes (generate, manage, metrics)"
            " joined by +, a colon, the SHA-256 of the key in lower-case hex and, where it is to"
            " expire, a colon and its last day, as in 2027-01-31"
        ) from None
    return digest, Key(scopes, expires)


def check_exposure(host: str, keys: ApiKeys) -> None:
    """Refuse to serve other machines without keys.

    Raises:
        ValueError: `host` is not loopback and there are no keys.
    """
    if not keys and not _is_loopback(host):
        raise ValueError(
            f"VITRINE_HOST is {host}, which other machines reach, but VITRINE_API_KEY_HASHES"
            " is empty; set it, or serve 127.0.0.1"
        )


def authorize(keys: ApiKeys, sent: str | None, *allowed: Scope) -> Key | None:
    """The key that was sent, if it has one of these scopes; None if the service has no keys.

    Raises:
        Problem: 401 without a valid key, 403 without the scope.
    """
    if not keys:
        return None
    key = None if sent is None else find_key(keys, sent)
    if key is None:
        problem = Problem(401, "unauthorized", "Send a valid key: Authorization: Bearer <key>.")
        problem.headers = {"WWW-Authenticate": "Bearer"}
        raise problem
    if key.scopes.isdisjoint(allowed):
        raise Problem(403, "forbidden", f"This key lacks the scope {' or '.join(allowed)}.")
    return key


def sent_key(authorization: str) -> str | None:
    """The key in an `Authorization` header, parsed as FastAPI's `HTTPBearer` does."""
    scheme, key = get_authorization_scheme_param(authorization)
    return key if scheme.lower() == "bearer" else None


def digest_of(key: str) -> str:
    """SHA-256 of a key in hex, which is stored in place of the key."""
    return hashlib.sha256(key.encode()).hexdigest()


def find_key(keys: ApiKeys, key: str) -> Key | None:
    """Scopes and expiry of a key; None if it is unknown or has expired."""
    digest = digest_of(key)
    # Compares every entry in constant time, so that timing reveals nothing about the keys.
    matches = [each for known, each in keys.items() if hmac.compare_digest(known, digest)]
    return matches[0] if matches and not matches[0].has_expired else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
