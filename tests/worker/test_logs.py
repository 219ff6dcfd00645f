"""Log lines: their content, and that input from outside cannot forge one (log injection)."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for
from worker import logs
from worker.queue.queue import JobQueue
from worker.schemas.requests import TrainJob
from worker.settings import LogFormat

FORGED = "2026-01-01 00:00:00,000 ERROR app.auth forged"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that no handler of the test run listens to."""
    logger = logging.getLogger("test-of-logs")
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def listen(logger: logging.Logger, log_format: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    logger.addHandler(logs.handler(log_format, stream))
    return stream


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_no_text_can_begin_a_line(logger: logging.Logger, end: str) -> None:
    stream = listen(logger, "text")
    logger.warning("no model %s", f"a{end}{FORGED}")
    try:
        raise ValueError(f"a{end}{FORGED}")
    except ValueError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "test-of-logs" in line]) == 2
    assert [line for line in lines if line.startswith("2026-01-01")] == []
    assert all(line.startswith("    ") for line in lines[2:])


def test_no_text_reaches_a_terminal_as_a_command(logger: logging.Logger) -> None:
    stream = listen(logger, "text")
    logger.warning("no model %s", "\x1b[2J\x9b1m\x7f")
    assert "no model \\x1b[2J\\x9b1m\\x7f" in stream.getvalue()


def test_json_lines_are_one_object_each(logger: logging.Logger) -> None:
    stream = listen(logger, "json")
    logger.warning("no model %s", f'a"\r\n{FORGED}', extra={"status": 404})
    try:
        raise ValueError("x\ny")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["status"]) == ("WARNING", "test-of-logs", 404)
    assert first["message"] == f'no model a"\r\n{FORGED}'
    assert first["timestamp"].startswith("20")
    assert "request_id" not in first
    assert "ValueError: x\ny" in second["exc_info"]


def test_lines_name_what_they_are_about(logger: logging.Logger) -> None:
    text, lines = listen(logger, "text"), listen(logger, "json")
    tokens = (logs.request_id.set("req_1"), logs.job_id.set("job_1"))
    logger.warning("told")
    logs.request_id.reset(tokens[0])
    logs.job_id.reset(tokens[1])
    assert text.getvalue().endswith("WARNING test-of-logs [req_1] [job_1] told\n")
    line = json.loads(lines.getvalue())
    assert (line["request_id"], line["job_id"]) == ("req_1", "job_1")


def test_a_worker_logs_its_start_and_the_stages_and_end_of_each_job(
    jobs: JobQueue,
    tiny_job: TrainJob,
    start_worker: StartWorker,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VITRINE_LOG_LEVEL", "debug")
    worker = start_worker()
    good = jobs.submit("train", tiny_job)
    wait_for(jobs, good.id, lambda record: record.terminal)
    bad = jobs.submit("train", tiny_job.model_copy(update={"dataset": "ds_00000000000000000000"}))
    wait_for(jobs, bad.id, lambda record: record.terminal)
    worker.terminate()
    worker.wait()
    said = capfd.readouterr().err.splitlines()
    assert any("Redis and the store answer, it waits for jobs" in line for line in said)
    for stage in ("loading data", "training", "evaluating", "registering"):
        began, ended = (line for line in said if f"[{good.id}]" in line and f": {stage} " in line)
        assert began.endswith(f"{stage} begins")
        assert re.search(rf"{stage} took [0-9.]+ s$", ended)
    assert any(f"job {bad.id} failed: dataset_not_found" in line for line in said)
    assert not any("Job OK" in line for line in said)  # RQ's word for both
    assert said[-1].endswith("stopped")
