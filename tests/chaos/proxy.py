"""Fault-injecting proxy in front of the S3 server."""

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """A callback in the middle of the `nth` request of a method whose path contains `part`."""

    method: str
    part: str
    nth: int
    happen: Callable[[], None]
    seen: int = field(default=0, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Count a matching request; returns whether it is the `nth`."""
        if method != self.method or self.part not in path:
            return False
        self.seen += 1
        return self.seen == self.nth


class Proxy:
    """Listens on `port` and forwards all requests, but those that meet a fault."""

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
        """Add a fault, which strikes once."""
        with self.lock:
            self.faults.append(fault)
        return fault

    def strike(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, if any."""
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
        """Log nothing."""

    def handle(self) -> None:
        """Handle requests; ignore clients that disconnect."""
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
