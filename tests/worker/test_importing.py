"""Imports in child processes: the same result, and what becomes of a child that goes wrong."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from PIL import Image

from models.archive import ArchiveLimits, DatasetError
from models.canonical import import_photos
from models.report import DatasetReport
from tests.models.pictures import saved, shop, zipped
from worker import importing
from worker.importing import Bounds, Importer, TooManyImports, refuse_at_a_glance
from worker.shipped import SAMPLE_ARCHIVE
from worker.storage import StorageFull

LIMITS = ArchiveLimits()
HUGE = saved(Image.new("RGB", (7000, 7000), "red"))  # few bytes, 147 MB of pixels
SLOW = zipped({**shop(a=10), **{f"b/{n}.png": HUGE for n in range(10)}}).getvalue()


def spooled(content: bytes) -> BinaryIO:
    """An upload as the API is given it."""
    file = cast(BinaryIO, tempfile.SpooledTemporaryFile(2**20))  # noqa: SIM115 - for the caller
    file.write(content)
    file.seek(0)
    return file


def children(of: int | str = "self") -> set[int]:
    """Processes that any thread of a process started, by default of this one."""
    lines = [path.read_text() for path in Path(f"/proc/{of}/task").glob("*/children")]
    return {int(pid) for line in lines for pid in line.split()}


def next_child(known: set[int], of: int | str = "self") -> int:
    """The process of an import that another thread has just begun."""
    deadline = time.monotonic() + 10
    while not (new := children(of) - known):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return new.pop()


def run(importer: Importer, content: bytes, limits: ArchiveLimits = LIMITS) -> DatasetReport:
    """The report on an upload."""
    with spooled(content) as source, tempfile.TemporaryFile() as target:
        return importer.run(source, target, limits).report


def refused(importer: Importer, content: bytes) -> str:
    """Why an upload is not imported."""
    with pytest.raises(DatasetError) as caught:
        run(importer, content)
    return caught.value.code


def test_a_child_makes_what_this_process_would_make() -> None:
    expected = io.BytesIO()
    with SAMPLE_ARCHIVE.open("rb") as source, tempfile.TemporaryFile() as target:
        imported = Importer(Bounds()).run(source, target, LIMITS)
        assert imported == import_photos(source, expected, LIMITS)
        assert target.read() == expected.getvalue()


def test_an_upload_that_still_is_in_memory_is_imported() -> None:
    assert run(Importer(Bounds()), zipped(shop(a=10)).getvalue()).images == 10
    assert refused(Importer(Bounds()), zipped(shop(a=3)).getvalue()) == "too_few_images"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_child_that_dies_refuses_its_upload_and_no_other(signum: signal.Signals) -> None:
    importer, known = Importer(Bounds()), children()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(refused, importer, SLOW)
        os.kill(next_child(known), signum)
        assert answer.result(10) == "invalid_dataset"
    assert children() == known
    assert run(importer, zipped(shop(a=10)).getvalue()).images == 10


def test_a_child_that_takes_too_long_is_ended() -> None:
    known = children()
    started = time.monotonic()
    assert refused(Importer(Bounds(timeout_s=0.8)), SLOW) == "invalid_dataset"
    assert time.monotonic() - started < 2
    assert children() == known


def test_a_child_that_wants_too_much_memory_is_refused_it() -> None:
    content = zipped({**shop(a=10), "a/huge.png": HUGE}).getvalue()
    small = Importer(Bounds(memory_bytes=320 * 2**20))
    assert refused(small, content) == "invalid_dataset"
    for importer, members in (
        (Importer(Bounds()), content),
        (small, zipped(shop(a=11)).getvalue()),
    ):
        assert run(importer, members).images == 11


def test_children_are_ended_with_their_importer() -> None:
    importer, known = Importer(Bounds()), children()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(refused, importer, SLOW)
        next_child(known)
        importer.close()
        assert answer.result(5) == "invalid_dataset"
    with pytest.raises(TooManyImports):
        run(importer, zipped(shop(a=10)).getvalue())


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "slow.zip").write_bytes(SLOW)
    program = (
        "import sys; from worker.importing import *; from models.archive import ArchiveLimits;"
        "Importer(Bounds()).run(open(sys.argv[1], 'rb'), tempfile.TemporaryFile(), ArchiveLimits())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "slow.zip")])
    child = next_child(set(), of=parent.pid)
    while b"import_process" not in Path(f"/proc/{child}/cmdline").read_bytes():
        time.sleep(0.01)
    while os.getpriority(os.PRIO_PROCESS, child) != 19:  # it has begun
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/exe").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_disk_is_not_the_uploads_fault() -> None:
    with (
        spooled(SAMPLE_ARCHIVE.read_bytes()) as source,
        open("/dev/full", "w+b", buffering=0) as target,
        pytest.raises(StorageFull),
    ):
        Importer(Bounds()).run(source, target, LIMITS)


def test_few_run_at_once_some_wait_and_the_others_are_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "WAITING", 1)
    importer, known = Importer(Bounds(at_once=1)), children()
    content, over = zipped(shop(a=10)).getvalue(), threading.Event()

    def attempt(_: int) -> bool:
        try:
            run(importer, content)
        except TooManyImports:
            return False
        return True

    def count() -> int:
        most = 0
        while not over.wait(0.01):
            most = max(most, len(children() - known))
        return most

    with ThreadPoolExecutor(7) as pool:
        counted = pool.submit(count)
        done = list(pool.map(attempt, range(6)))
        over.set()
        assert (done.count(True), counted.result()) == (2, 1)


def test_a_child_is_given_no_secret_and_nothing_but_its_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    importer, known = Importer(Bounds()), children()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(refused, importer, SLOW)
        pid = next_child(known)
        deadline = time.monotonic() + 10
        while os.getpriority(os.PRIO_PROCESS, pid) != 19:  # the first thing it does
            assert time.monotonic() < deadline
            time.sleep(0.01)
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        mapped = Path(f"/proc/{pid}/maps").read_text()
        importer.close()
        answer.result(5)
    assert b"secret" not in environment
    assert "libtorch" not in mapped
    assert "PIL" in mapped


def test_a_glance_refuses_what_a_directory_shows_and_leaves_the_rest() -> None:
    with pytest.raises(DatasetError, match="folder per category"):
        refuse_at_a_glance(zipped({"1.png": b""}), LIMITS)
    many = zipped({f"a/{n}.png": b"" for n in range(1500)})
    refuse_at_a_glance(many, LIMITS)
    with pytest.raises(DatasetError, match="at most 1,200 files"):
        run(Importer(Bounds()), many.getvalue(), ArchiveLimits(members=1200))
