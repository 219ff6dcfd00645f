"""Which names this service answers to, and from whose pages browsers may write to it.

A service on loopback that asks for no key relies on nobody else reaching it, but a browser on the
same machine runs pages from anywhere. Two things keep those out. A page whose own name has been
made to point to 127.0.0.1 (DNS rebinding) still sends that name as Host, which is not ours; and a
page of another origin that posts here says so in Origin.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Answer, problem_response
from app.headers import first_headers

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
READING = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_REMEMBERED = 100  # names; a service has few, and clients can send any
PROBES = "/health/"  # Kubernetes asks for a pod by its address


def allowed_hosts(text: str, host: str, *, keyless: bool) -> frozenset[str]:
    """The names to answer to: those configured, else any with keys, and loopback's without.

    Raises:
        ValueError: one of those configured is no name.
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
    """Who is served, by what a request says of where it goes to and comes from."""

    def __init__(self, allowed: Iterable[str], *, keyless: bool) -> None:
        self.allowed = frozenset(allowed)
        self.keyless = keyless
        self.knows = lru_cache(MOST_REMEMBERED)(self._knows)

    def refusal(self, scope: Scope) -> Answer | None:
        """Why a request is not served; None where it is."""
        if scope["path"].startswith(PROBES):
            return None
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if "*" not in self.allowed and not (len(hosts) == 1 and self.knows(hosts[0])):
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

    def _knows(self, host: str) -> bool:
        """Whether a Host header, with any port, names this service."""
        name = re.sub(r":[0-9]*$", "", host.lower()).removesuffix(".")
        parents = (name[dot.start() :] for dot in re.finditer(r"\.", name))
        return name in self.allowed or any(f"*{parent}" in self.allowed for parent in parents)


class Hosts:
    """ASGI middleware: 400 for the name of another, 403 for the page of another."""

    def __init__(self, app: ASGIApp, *, rules: HostRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None if scope["type"] != "http" else self.rules.refusal(scope)
        if answer is None:
            await self.app(scope, receive, send)
            return
        response = problem_response(Request(scope), answer)
        # What a body may hold is not read: the connection ends with this answer.
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
