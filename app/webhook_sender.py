"""One attempt to announce a job's end, to nowhere but where `Receivers` lets it go.

Between the check of an address and the connection to it nothing is resolved again, so a name that
changes its mind gains nothing. TLS still verifies the name.
"""

import ssl
from collections.abc import Iterable
from functools import cached_property, partial

import anyio
import anyio.to_thread
import httpcore
import httpx

from worker.addresses import Unresolved
from worker.jobs import now
from worker.receivers import NotPublic, ReceiverRefused, Receivers
from worker.webhooks import Attempt, Reason

ANSWER_S = 10.0
CONNECT_S = 3.0  # to one of several addresses, before the next is tried
NETWORK_ERRORS = (
    *(OSError, httpx.InvalidURL, httpcore.TimeoutException, httpcore.NetworkError),
    *(httpcore.ProtocolError, httpcore.UnsupportedProtocol, httpcore.ConnectionNotAvailable),
    ValueError,  # a name that TLS cannot carry
)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, and to no others."""

    def __init__(self, receivers: Receivers) -> None:
        self.receivers = receivers
        self.network = httpcore.AnyIOBackend()
        # Of its own: who waits for a name server must not take a thread that answers clients.
        self.threads = anyio.CapacityLimiter(1)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the host's addresses that takes one."""
        check = partial(self.receivers.addresses, host, port)
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
    """Makes attempts, each on a connection of its own, so that each is checked."""

    def __init__(
        self,
        receivers: Receivers,
        *,
        answer_s: float = ANSWER_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.receivers = receivers
        self.answer_s = answer_s
        self._tls = tls

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Trusts certifi's authorities, or those in SSL_CERT_FILE or SSL_CERT_DIR."""
        return self._tls or httpx.create_ssl_context()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        """Send, and wait for the answer's status code; what else is in it is of no interest.

        Whatever goes wrong there is a failed attempt, never an error here.
        """
        at = now()
        try:
            with anyio.fail_after(self.answer_s):
                return Attempt(at=at, status_code=await self._post(url, headers, body))
        except TimeoutError:
            # Also the operating system's, to a connection that nobody answers.
            return Attempt(at=at, error="timed out")
        except (ReceiverRefused, Unresolved, *NETWORK_ERRORS) as error:
            return Attempt(at=at, error=_reason(error))

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        self.receivers.check_scheme(url)
        # httpx reads the URL, but no client of it sends: that would look for proxies in the
        # environment, and write the URL to the log, where the receiver's secrets do not belong.
        request = httpx.Request("POST", url, headers=headers, content=body)
        target = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        backend = CheckedBackend(self.receivers)
        async with httpcore.AsyncConnectionPool(self.tls, network_backend=backend) as pool:
            answer = await pool.handle_async_request(
                httpcore.Request("POST", target, headers=request.headers.raw, content=body)
            )
            await answer.aclose()  # unread
            return answer.status


def _reason(error: BaseException) -> Reason:
    """Why there was no answer, in one of a few constant words."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    kinds: dict[type[BaseException], Reason] = {
        NotPublic: "not a public address",
        ReceiverRefused: "not https",
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
