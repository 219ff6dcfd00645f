"""Webhook HTTP client with an SSRF guard: sends only to addresses that `WebhookTargets` permits.

It connects to the very address that was checked, without a second DNS lookup, so that DNS
rebinding has no effect. TLS still verifies the host name.
"""

import ssl
from collections.abc import Iterable
from functools import cached_property, partial

import anyio
import anyio.to_thread
import httpcore
import httpx

from worker.schemas.jobs import now
from worker.webhooks.addresses import Unresolved
from worker.webhooks.deliveries import DeliveryAttempt, Reason
from worker.webhooks.targets import NotPublic, TargetRefused, WebhookTargets

ANSWER_S = 10.0
CONNECT_S = 3.0  # to one of several addresses, before the next is tried
NETWORK_ERRORS = (
    *(OSError, httpx.InvalidURL, httpcore.TimeoutException, httpcore.NetworkError),
    *(httpcore.ProtocolError, httpcore.UnsupportedProtocol, httpcore.ConnectionNotAvailable),
    ValueError,  # a name that TLS cannot carry
)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Network backend that connects only to addresses that passed the check."""

    def __init__(self, targets: WebhookTargets) -> None:
        self.targets = targets
        self.network = httpcore.AnyIOBackend()
        # A limiter of its own: slow DNS lookups must not occupy the threads that serve clients.
        self.threads = anyio.CapacityLimiter(1)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that accepts a connection."""
        check = partial(self.targets.addresses, host, port)
        addresses = await anyio.to_thread.run_sync(
            check, abandon_on_cancel=True, limiter=self.threads
        )
        for address in addresses[:-1]:
            try:
                return await self.network.connect_tcp(
                    address, port, CONNECT_S, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self.network.connect_tcp(
            addresses[-1], port, timeout, local_address, socket_options
        )


class Sender:
    """Sends webhooks, each on a new connection, so that its address is checked."""

    def __init__(
        self,
        targets: WebhookTargets,
        *,
        answer_s: float = ANSWER_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.targets = targets
        self.answer_s = answer_s
        self._tls = tls

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Trusts certifi's authorities, or those in SSL_CERT_FILE or SSL_CERT_DIR."""
        return self._tls or httpx.create_ssl_context()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> DeliveryAttempt:
        """Send, and wait for the answer's status code; the rest of the answer is not read.

        Errors of the network and of the receiver are returned as a failed attempt, never raised.
        """
        at = now()
        try:
            with anyio.fail_after(self.answer_s):
                return DeliveryAttempt(at=at, status_code=await self._post(url, headers, body))
        except TimeoutError:
            # Also the operating system's error for a connection attempt without an answer.
            return DeliveryAttempt(at=at, error="timed out")
        except (TargetRefused, Unresolved, *NETWORK_ERRORS) as error:
            return DeliveryAttempt(at=at, error=_reason(error))

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        self.targets.check_scheme(url)
        # httpx only parses the URL. Its client would read proxies from the environment, and log
        # the URL, which may contain the receiver's secrets.
        request = httpx.Request("POST", url, headers=headers, content=body)
        target = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        backend = CheckedBackend(self.targets)
        async with httpcore.AsyncConnectionPool(self.tls, network_backend=backend) as pool:
            answer = await pool.handle_async_request(
                httpcore.Request("POST", target, headers=request.headers.raw, content=body)
            )
            await answer.aclose()  # unread
            return answer.status


def _reason(error: BaseException) -> Reason:
    """Why there was no answer, as one of a few constant reasons."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    kinds: dict[type[BaseException], Reason] = {
        NotPublic: "not a public address",
        TargetRefused: "not https",
        Unresolved: "name not resolved",
        ssl.SSLError: "tls",
        ConnectionRefusedError: "refused",
        httpcore.TimeoutException: "timed out",
        httpcore.ConnectError: "unreachable",
    }
    for kind, reason in kinds.items():
        if any(isinstance(each, kind) for each in causes):
            return reason
    return "broken off"
