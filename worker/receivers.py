"""Where webhooks may go: to https and public addresses, unless the operator says otherwise.

A URL is checked when a job is submitted, for the client's sake, and its addresses again whenever
something is sent, since what a name resolves to is up to whoever owns it.
"""

from pydantic_core import Url

from worker.addresses import LOOKUP_PATIENCE_S, Lookup, is_public, resolve, system_lookup

MAX_URL = 2048


class ReceiverRefused(ValueError):
    """A webhook may not be sent there."""


class NotPublic(ReceiverRefused):
    """Its address, or one of its host name's, is not a public one."""


class Receivers:
    """What the operator allows."""

    def __init__(
        self,
        *,
        private: bool,
        lookup: Lookup = system_lookup,
        patience_s: float = LOOKUP_PATIENCE_S,
    ) -> None:
        self.private = private
        self.lookup = lookup
        self.patience_s = patience_s

    def check(self, url: str) -> None:
        """Raise what speaks against sending to a URL that `canonical` has returned.

        Raises:
            ReceiverRefused: it may not be sent to.
            Unresolved: nobody knows where it is.
        """
        self.check_scheme(url)
        parts = Url(url)
        assert parts.host is not None
        assert parts.port is not None
        self.addresses(parts.host.strip("[]"), parts.port)

    def check_scheme(self, url: str) -> None:
        """Whether what is sent there is encrypted, or need not be; raises ReceiverRefused."""
        if not self.private and not url.startswith("https://"):
            raise ReceiverRefused("it must start with https://")

    def addresses(self, host: str, port: int) -> list[str]:
        """Where a connection to this host may go now.

        Raises:
            NotPublic: to none, since not all of its addresses are public.
            Unresolved: nobody knows where it is.
        """
        found = resolve(self.lookup, host, port, self.patience_s)
        if not self.private and not all(is_public(address) for address in found):
            raise NotPublic("it must be at a public address, and not all of its addresses are")
        return found


def canonical(url: str) -> str:
    """The URL as WHATWG's standard understands it, in ASCII.

    One reading for whoever checks it and whoever connects: `http://0x7f.1` is `http://127.0.0.1/`,
    and a name in any script its `xn--` form.

    Raises:
        ValueError: it is none that something can be sent to.
    """
    try:
        parts = Url(url)
    except ValueError as error:
        raise ValueError("must be an https:// URL") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("must be an https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password; the signature says who sends")
    if parts.fragment is not None:
        raise ValueError("must have no fragment")
    # The dot ends an absolute name. Certificates are written without it.
    start, host = f"{parts.scheme}://", parts.host
    text = start + host.removesuffix(".") + str(parts).removeprefix(start + host)
    if len(text) > MAX_URL:
        raise ValueError(f"must have at most {MAX_URL} characters")
    return text
