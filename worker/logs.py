"""Log lines, as text or as JSON, each with the request or the job that it is about.

They go to stderr. Nothing that comes from outside can end a line, or begin one that looks like
ours.
"""

import logging
import sys
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from worker.settings import LogFormat, Settings

# What this process, thread or task works on; threads of a request are given a copy.
request_id: ContextVar[str] = ContextVar("request_id", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")

# C0, DEL, C1 and Unicode's two line ends: whatever a terminal or a log collector may obey.
CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in CONTROLS}
INDENT = "    "  # of a traceback's lines: no line of ours begins so


def configure(settings: Settings) -> None:
    """Have this process write its lines as the operator wants them."""
    level = settings.log_level.upper()
    # Libraries tell too much for all days; some of it, such as addresses, is nobody's business.
    rest = level if level in ("DEBUG", "ERROR") else "WARNING"
    logging.basicConfig(level=rest, handlers=[handler(settings.log_format, sys.stderr)])
    for package in ("app", "worker", "models"):
        logging.getLogger(package).setLevel(level)


def handler(log_format: LogFormat, stream: TextIO) -> logging.Handler:
    """Writes lines to a stream."""
    result = logging.StreamHandler(stream)
    result.addFilter(_add_context)
    result.setFormatter(TextFormatter() if log_format == "text" else _json_formatter())
    return result


class TextFormatter(logging.Formatter):
    """`time LEVEL logger [request] [job] message`, a line for each; tracebacks are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(ids)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and under it the traceback."""
        record.exc_text = None  # as another formatter may have left it here
        text = super().format(record)
        record.exc_text = None
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, all of whose control characters are shown and none obeyed."""
        ids = (record.__dict__.get(name) for name in ("request_id", "job_id"))
        record.ids = "".join(f"[{each}] " for each in ids if each)
        record.message = record.message.strip().translate(ESCAPED)
        return super().formatMessage(record)

    def formatException(  # noqa: N802 - logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """The traceback, whose last line may quote what a client has sent."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """The stack."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(INDENT + line.translate(ESCAPED) for line in text.split("\n"))


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
    )


def _add_context(record: logging.LogRecord) -> bool:
    for variable in (request_id, job_id):
        if value := variable.get():
            setattr(record, variable.name, value)
    return True
