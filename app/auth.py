"""Who may call what: API keys, known by their SHA-256 and the scopes they carry.

`VITRINE_API_KEY_HASHES` holds entries `scope+scope:sha256hex`, separated by commas, each with or
without `:2027-01-31`, its last day; `python -m app.keys` makes them. Without any the service serves
loopback only, and asks nobody for a key.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Annotated, Literal, NamedTuple, get_args

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from app.errors import Problem

Scope = Literal["generate", "manage", "metrics"]
DIGEST = re.compile("[0-9a-f]{64}")


class Key(NamedTuple):
    """What is known of a key beside its hash."""

    scopes: frozenset[str]
    expires: date | None  # its last day, UTC

    @property
    def has_expired(self) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and datetime.now(UTC).date() > self.expires


ApiKeys = dict[str, Key]  # by SHA-256 of the key

bearer = HTTPBearer(auto_error=False, description="An API key.")


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
        # Of neither error is a word repeated: what was meant to be a hash may be a key.
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


def require(*allowed: Scope) -> Callable[..., Awaitable[None]]:
    """A dependency that lets only keys with one of these scopes through."""

    async def check(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        authorize(request, credentials.credentials if credentials else None, *allowed)

    return check


def authorize(request: Request, sent: str | None, *allowed: Scope) -> None:
    """Let only keys with one of these scopes through; raises Problem."""
    keys: ApiKeys = request.app.state.api_keys
    if not keys:
        return
    key = None if sent is None else find_key(keys, sent)
    if key is None:
        problem = Problem(401, "unauthorized", "Send a valid key: Authorization: Bearer <key>.")
        problem.headers = {"WWW-Authenticate": "Bearer"}
        raise problem
    request.state.scopes = key.scopes
    if key.scopes.isdisjoint(allowed):
        raise Problem(403, "forbidden", f"This key lacks the scope {' or '.join(allowed)}.")


def sent_key(authorization: str) -> str | None:
    """The key in a header's value, as `bearer` finds it, before there is a route."""
    scheme, key = get_authorization_scheme_param(authorization)
    return key if scheme.lower() == "bearer" else None


def digest_of(key: str) -> str:
    """What is known of a key in place of itself."""
    return hashlib.sha256(key.encode()).hexdigest()


def find_key(keys: ApiKeys, key: str) -> Key | None:
    """What is known of a key that is valid now."""
    digest = digest_of(key)
    # Every entry is compared, in constant time each, so that timing tells nothing of the keys.
    matches = [each for known, each in keys.items() if hmac.compare_digest(known, digest)]
    return matches[0] if matches and not matches[0].has_expired else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
