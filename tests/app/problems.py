"""The contract of every error answer."""

import re
from typing import Any, Protocol

LEAKS = re.compile(r'Traceback|File "|/tmp/|/home/|/usr/|unix://|\.py\b|0x[0-9a-f]{6}')


class Answer(Protocol):
    """The parts of a response that are checked."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...


def assert_problem(response: Answer, status: int, code: str) -> dict[str, Any]:
    """Check an error answer against the contract; returns its body."""
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), response.text
    body: dict[str, Any] = response.json()
    assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code)
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert not LEAKS.search(response.text), response.text
    if status in (429, 503):
        assert int(response.headers["retry-after"]) > 0
    return body
