"""Who may call what: API keys, known by their SHA-256 and the scopes they carry.

`VITRINE_API_KEY_HASHES` holds entries `scope+scope:sha256hex`, separated by commas. Without any the
service serves loopback only, and asks nobody for a key.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from typing import Annotated, Literal, get_args

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import Problem

Scope = Literal["generate", "manage", "metrics"]
ApiKeys = dict[str, frozenset[str]]  # scopes by SHA-256 of the key

bearer = HTTPBearer(auto_error=False, description="An API key.")


def parse_keys(text: str) -> ApiKeys:
    """The configured keys.

    Raises:
        ValueError: an entry is not of the form above.
    """
    keys: ApiKeys = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        scopes_text, _, digest = entry.partition(":")
        scopes = frozenset(scopes_text.split("+"))
        well_formed = len(digest) == 64 and all(c in "0123456789abcdef" for c in digest)
        if not well_formed or not scopes <= set(get_args(Scope)):
            raise ValueError(
                "VITRINE_API_KEY_HASHES: each entry must be scopes (generate, manage, metrics)"
                " joined by +, a colon, and the SHA-256 of the key in lower-case hex"
            )
        keys[digest] = scopes
    return keys


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


def require(*allowed: Scope) -> Callable[..., None]:
    """A dependency that lets only keys with one of these scopes through."""

    def check(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        keys: ApiKeys = request.app.state.api_keys
        if not keys:
            return
        scopes = _scopes(keys, credentials.credentials) if credentials else None
        if scopes is None:
            problem = Problem(401, "unauthorized", "Send a valid key: Authorization: Bearer <key>.")
            problem.headers = {"WWW-Authenticate": "Bearer"}
            raise problem
        if scopes.isdisjoint(allowed):
            raise Problem(403, "forbidden", f"This key lacks the scope {' or '.join(allowed)}.")

    return check


def _scopes(keys: ApiKeys, key: str) -> frozenset[str] | None:
    digest = hashlib.sha256(key.encode()).hexdigest()
    # Every entry is compared, in constant time each, so that timing tells nothing of the keys.
    matches = [scopes for known, scopes in keys.items() if hmac.compare_digest(known, digest)]
    return matches[0] if matches else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
