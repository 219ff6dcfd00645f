"""Webhook receiver: a real HTTP server that records requests."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver(ThreadingHTTPServer):
    """Answers after `pause_s` with the next of `statuses`; repeats the last one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, statuses: tuple[int, ...], pause_s: float, tls: ssl.SSLContext | None):
        super().__init__(("127.0.0.1", 0), Answering)
        self.statuses = list(statuses)
        self.pause_s = pause_s
        self.location = "/elsewhere"
        self.received: list[Received] = []
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        """The address of its endpoint."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: in some tests the sender disconnects."""

    def next_status(self) -> int:
        """The status of the next answer."""
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class Answering(BaseHTTPRequestHandler):
    """One connection."""

    server: Receiver

    def do_POST(self) -> None:
        """Record the request, then answer with the next status."""
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(Received(self.path, headers, body))
        status = self.server.next_status()
        time.sleep(self.server.pause_s)
        self.send_response(status)
        if status in (301, 302, 307, 308):
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def receiving(
    *statuses: int, pause_s: float = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver that answers with these statuses, 200 where none is given."""
    server = Receiver(statuses or (200,), pause_s, tls)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
