"""Host and Origin checks against DNS rebinding and cross-origin writes (CSRF).

A service on loopback without keys relies on other machines not reaching it, but a browser on the
same machine runs pages from any site. Two checks keep those out. A page whose own name resolves to
127.0.0.1 (DNS rebinding) still sends that name as Host, which is not an allowed one; and a page of
another origin that posts here sends that origin as Origin.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Answer, problem_response
from app.middleware.headers import first_headers

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
READING = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_REMEMBERED = 100  # names in the cache; a service has few, but clients can send any
PROBES = "/health/"  # not checked: Kubernetes probes a pod by its IP address


def allowed_hosts(text: str, host: str, *, keyless: bool) -> frozenset[str]:
    """Accepted host names: the configured ones; else any if keys are required, or loopback's.

    Raises:
        ValueError: a configured one is not a host name.
    """
    names = [name for part in text.split(",") if (name := part.strip().lower())]
    for name in names:
        if not HOST.fullmatch(name):
            raise ValueError(
                f"VITRINE_ALLOWED_HOSTS: {name!r} is no host name; write shop.example,"
                " *.shop.example, [::1] or *, without a port, separated by commas"
            )
    if not names:
        own = f"[{host}]" if ":" in host else host
        names = [*LOOPBACK, own.lower()] if keyless else ["*"]
    return frozenset(names)


class HostRules:
    """Decides by the Host and Origin headers whether a request is served."""

    def __init__(self, allowed: Iterable[str], *, keyless: bool) -> None:
        self.allowed = frozenset(allowed)
        self.keyless = keyless
        self.is_allowed = lru_cache(MOST_REMEMBERED)(self._is_allowed)

    def refusal(self, scope: Scope) -> Answer | None:
        """The error answer to a request that is not served; None for one that is."""
        if scope["path"].startswith(PROBES):
            return None
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if "*" not in self.allowed and not (len(hosts) == 1 and self.is_allowed(hosts[0])):
            return Answer(
                400, "bad_host", "This service has another name; see VITRINE_ALLOWED_HOSTS."
            )
        origin = first_headers(scope).get(b"origin") if self.keyless else None
        if origin is None or scope["method"] in READING:
            return None
        scheme, _, place = origin.decode("latin-1").lower().partition("://")
        if scheme in ("http", "https") and [place] == [host.lower() for host in hosts]:
            return None
        return Answer(403, "foreign_origin", "Pages of another origin may not write here.")

    def _is_allowed(self, host: str) -> bool:
        """Whether a Host header names this service; the port is ignored."""
        name = re.sub(r":[0-9]*$", "", host.lower()).removesuffix(".")
        parents = (name[dot.start() :] for dot in re.finditer(r"\.", name))
        return name in self.allowed or any(f"*{parent}" in self.allowed for parent in parents)


class HostCheck:
    """ASGI middleware: 400 for a foreign Host, 403 for a write from a foreign Origin."""

    def __init__(self, app: ASGIApp, *, rules: HostRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None if scope["type"] != "http" else self.rules.refusal(scope)
        if answer is None:
            await self.app(scope, receive, send)
            return
        await problem_response(Request(scope), answer)(scope, receive, send)
