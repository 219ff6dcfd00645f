"""A proxy before the S3 server that does harm in the middle of a chosen request."""

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """What happens at the `nth` request of a method whose path has a part, in its middle."""

    method: str
    part: str
    nth: int
    happen: Callable[[], None]
    seen: int = field(default=0, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is the one; counts it."""
        if method != self.method or self.part not in path:
            return False
        self.seen += 1
        return self.seen == self.nth


class Proxy:
    """Listens on `port` and passes everything on, until a fault strikes."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def arm(self, fault: Fault) -> Fault:
        """Let it happen once its request comes."""
        with self.lock:
            self.faults.append(fault)
        return fault

    def strike(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self.lock:
            return next((f for f in self.faults if f.strikes(method, path)), None)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def handle(self) -> None:
        """Whoever hangs up, hangs up."""
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def _pass_on(self) -> None:
        fault = self.owner.strike(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        if fault is None:
            self._forward(self.rfile.read(length))
            return
        self.rfile.read(length // 2)
        fault.happen()
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - http.server's names

    def _forward(self, body: bytes) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.owner.upstream_port)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
        if self.command == "HEAD" and (size := answer.getheader("Content-Length")):
            kept["Content-Length"] = size
        self._answer(answer.status, kept, content)
        upstream.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
