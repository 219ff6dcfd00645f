"""Logging to stderr as text or JSON, each line with its request id or job id.

Log injection is prevented: control characters are escaped, so input cannot end a line or forge one.
"""

import logging
import sys
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from worker.settings import LogFormat, Settings

# The current request or job of this thread or asyncio task; threads of a request get a copy.
request_id: ContextVar[str] = ContextVar("request_id", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")

# C0, DEL, C1 and Unicode's two line separators: terminals and log collectors interpret them.
CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in CONTROLS}
INDENT = "    "  # before each line of a traceback; no log line starts with it


def configure(settings: Settings) -> None:
    """Set up the logging of this process as the settings say."""
    level = settings.log_level.upper()
    # Libraries stay at WARNING instead of INFO: they log a lot, and some of it, such as client
    # addresses, is private.
    rest = level if level in ("DEBUG", "ERROR") else "WARNING"
    logging.basicConfig(level=rest, handlers=[handler(settings.log_format, sys.stderr)])
    for package in ("app", "worker", "models"):
        logging.getLogger(package).setLevel(level)
    # RQ does not know how a job ended: it says "Job OK" of each whose process ended well.
    logging.getLogger("rq.worker").setLevel(max(logging.WARNING, logging.getLogger().level))


def handler(log_format: LogFormat, stream: TextIO) -> logging.Handler:
    """A logging handler that writes lines in this format to `stream`."""
    result = logging.StreamHandler(stream)
    result.addFilter(_add_context)
    result.setFormatter(TextFormatter() if log_format == "text" else _json_formatter())
    return result


class TextFormatter(logging.Formatter):
    """One line a record: `time LEVEL logger [request] [job] message`; tracebacks are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(ids)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line and, below it, the traceback if there is one."""
        record.exc_text = None  # another formatter may have cached an unescaped traceback here
        text = super().format(record)
        record.exc_text = None
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, with the ids in front of the message and control characters escaped."""
        ids = (record.__dict__.get(name) for name in ("request_id", "job_id"))
        record.ids = "".join(f"[{each}] " for each in ids if each)
        record.message = record.message.strip().translate(ESCAPED)
        return super().formatMessage(record)

    def formatException(  # noqa: N802 - logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """The traceback, indented and escaped: its last line may quote client input."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """The stack, indented and escaped."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(INDENT + line.translate(ESCAPED) for line in text.split("\n"))


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's copy for terminals
    )


def _add_context(record: logging.LogRecord) -> bool:
    for variable in (request_id, job_id):
        if value := variable.get():
            setattr(record, variable.name, value)
    return True
