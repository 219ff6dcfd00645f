"""Strict HTTP/1.1 protocol: refuses request smuggling, bounds heads, keeps pipelined order.

uvicorn's protocol over llhttp is fast, but accepts requests that two servers in a row may parse
differently (request smuggling), keeps headers of any size, and loses pipelined requests that follow
an offer of an upgrade.
"""

from typing import NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

MAX_HEAD_BYTES = 64 * 1024  # of a request line and its headers; also of trailers
MAX_WAITING = 100  # pipelined requests of one connection behind the one being answered
INVALID = "Invalid HTTP request received."
TOO_LARGE = f"The headers may have at most {MAX_HEAD_BYTES} bytes."


class StrictProtocol(HttpToolsProtocol):
    """Refuses ambiguous or too large requests, with a 4xx where that is the next answer due."""

    running: RequestResponseCycle | None = None  # the one being answered; `cycle` is the newest one
    _head_begun = False
    _head_whole = False  # and its body is not complete
    _unparsed_bytes = 0  # bytes since the last one that completed a head or belonged to a body
    _made_progress = False
    _ignores_input = False

    @property
    def answering(self) -> bool:
        """Whether the application has a request whose answer is not complete."""
        return self.running is not None and not self.running.response_complete

    @property
    def waits_for_a_head(self) -> bool:
        """Whether a head has begun, or could: the newest request's answer is complete."""
        return self._head_begun or (self.cycle is not None and self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Parse data; refuse what is malformed, or a head of more than `MAX_HEAD_BYTES`."""
        self._unset_keepalive_if_required()
        if self._ignores_input:
            return
        self._made_progress = False
        try:
            self._feed(data)
        except HttpParserError as error:
            self._refuse(431 if isinstance(error.__context__, _TooLargeError) else 400)
            return
        self._unparsed_bytes = 0 if self._made_progress else self._unparsed_bytes + len(data)
        if self._unparsed_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Handle a request's first byte."""
        if not self._head_whole:
            self._head_begun = True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Append a part of the request target."""
        if not self._head_whole:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Append a header; trailers are ignored, because they are not checked."""
        if not self._head_whole:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the request, or refuse it."""
        if self._head_whole:
            return
        self._check_head()
        super().on_headers_complete()
        self._head_begun, self._head_whole, self._made_progress = False, True, True

    def on_body(self, body: bytes) -> None:
        """Append a part of the body."""
        self._made_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Complete the body, unless llhttp has only stopped at an upgrade."""
        if not self.parser.should_upgrade():
            self._head_whole = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next pipelined request; resume reading only if there is none."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Disconnect the running request too; uvicorn disconnects only the newest one."""
        super().connection_lost(exc)
        if self.answering and self.running is not None:
            _disconnect(self.running)
        self.pipeline.clear()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._ignore_upgrade()

    def _ignore_upgrade(self) -> None:
        """Let a body follow the headers, as HTTP specifies if an upgrade is not accepted.

        llhttp would parse the body as the next request, and has no option against it. So a new
        parser continues, which is given only the headers that frame the body.
        """
        framing = (b"content-length", b"transfer-encoding")
        head = [b"POST / HTTP/1.1"]
        head += [b"%s: %s" % pair for pair in self.headers if pair[0] in framing]
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([*head, b"", b""]))

    def _check_head(self) -> None:
        size, hosts = len(self.url), 0
        version = self.parser.get_http_version()
        for name, value in self.headers:
            size += len(name) + len(value) + len(b": \r\n")
            hosts += name == b"host"
            if name == b"transfer-encoding" and (version, value.lower()) != ("1.1", b"chunked"):
                _refuse_head()
        if size > MAX_HEAD_BYTES:
            raise _TooLargeError
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            _refuse_head()
        # An absolute target repeats the host, and a target must not have a fragment.
        if not self.url.startswith(b"/") or b"#" in self.url:
            _refuse_head()
        if self.parser.get_method() == b"CONNECT" or len(self.pipeline) >= MAX_WAITING:
            _refuse_head()
        if version == "1.0":
            self.expect_100_continue = False

    def _refuse(self, status: int) -> None:
        """Close the connection after this answer, or after the earlier ones that are still due."""
        self._ignores_input = True
        self.logger.warning(INVALID)
        if self._head_whole and self.pipeline:
            self.pipeline.popleft()  # the newest one, whose body is malformed
        elif self._head_whole and self.answering:
            if not self.cycle.response_started:
                self._answer(status)
            _disconnect(self.cycle)
            self.transport.close()
            return
        if self.pipeline:
            self.pipeline[0][0].keep_alive = False
        elif self.answering and self.running is not None:
            self.running.keep_alive = False
        else:
            if not self._head_whole:
                self._answer(status)
            self.transport.close()

    def _answer(self, status: int) -> None:
        text = (TOO_LARGE if status == 431 else INVALID).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + text)


class _InvalidError(Exception):
    """Stops the parser at a head that llhttp accepts but this protocol does not."""


class _TooLargeError(_InvalidError):
    """Stops the parser at a head of too many bytes."""


def _refuse_head() -> NoReturn:
    raise _InvalidError


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
