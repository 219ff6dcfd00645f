"""SSRF guard of webhooks: only https and public addresses, unless the operator allows others.

A URL is checked when a job is submitted, so that the client gets an error, and its addresses again
at each delivery, because the owner of a host name can change what it resolves to (DNS rebinding).
"""

from pydantic_core import Url

from worker.webhooks.addresses import (
    LOOKUP_TIMEOUT_S,
    Lookup,
    is_public,
    resolve,
    system_lookup,
)


class TargetRefused(ValueError):
    """A webhook may not be sent to this URL."""


class NotPublic(TargetRefused):
    """At least one address of the URL's host is not public."""


class WebhookTargets:
    """Checks targets by the operator's policy; `private` allows http and private addresses."""

    def __init__(
        self,
        *,
        private: bool,
        lookup: Lookup = system_lookup,
        timeout_s: float = LOOKUP_TIMEOUT_S,
    ) -> None:
        self.private = private
        self.lookup = lookup
        self.timeout_s = timeout_s

    def check(self, url: str) -> None:
        """Check a URL in the form that `canonical` returns.

        Raises:
            TargetRefused: webhooks may not be sent there.
            Unresolved: its host name cannot be resolved.
        """
        self.check_scheme(url)
        parts = Url(url)
        assert parts.host is not None
        assert parts.port is not None
        self.addresses(parts.host.strip("[]"), parts.port)

    def check_scheme(self, url: str) -> None:
        """Require https unless private targets are allowed; raises TargetRefused."""
        if not self.private and not url.startswith("https://"):
            raise TargetRefused("it must start with https://")

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses that a connection to this host may use.

        Raises:
            NotPublic: not all of its addresses are public.
            Unresolved: the host name cannot be resolved.
        """
        found = resolve(self.lookup, host, port, self.timeout_s)
        if not self.private and not all(is_public(address) for address in found):
            raise NotPublic("it must be at a public address, and not all of its addresses are")
        return found
