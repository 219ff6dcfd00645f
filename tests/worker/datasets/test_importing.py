"""Imports in child processes: same result as in this process, and recovery from failed children."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from PIL import Image

from models.data.archive import ArchiveLimits, DatasetError
from models.data.photos import ImageError, decode
from models.data.report import DatasetReport
from models.data.upload_import import import_photos
from tests.models.pictures import many_exif_segments, noise, saved, shop, zipped
from tests.processes import children, imports, next_import, open_temporary_files
from worker.datasets import importing
from worker.datasets.import_slot import Bounds, ImportAbandoned, TooManyImports
from worker.datasets.importing import Importer, check_directory
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.storage import StorageFull

Make = Callable[..., Importer]
LIMITS = ArchiveLimits()
HUGE = saved(Image.new("RGB", (7000, 7000), "red"))  # few bytes, 147 MB of pixels
LARGE = saved(noise(1, (60, 60)).resize((5000, 5000), Image.Resampling.NEAREST))
SLOW = zipped({**shop(a=10), **{f"b/{n}.png": HUGE for n in range(10)}}).getvalue()


def spooled(content: bytes) -> BinaryIO:
    """An upload as the API receives it."""
    file = cast(BinaryIO, tempfile.SpooledTemporaryFile(2**20))  # noqa: SIM115 - for the caller
    file.write(content)
    file.seek(0)
    return file


def ended(importer: Importer) -> None:
    """Asserts that the upload is refused: the importer is closed before or during the import."""
    with pytest.raises((DatasetError, TooManyImports)):
        run(importer, SLOW)


def wait_for_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/exe").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_it_has_told_of_its_fork(pid: int) -> None:
    """The server closes the upload's files then; one that dies earlier is replaced."""
    deadline = time.monotonic() + 5
    while open_temporary_files(pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes importers with some bounds changed, and closes them."""
    with ExitStack() as stack:

        def made(**bounds: Any) -> Importer:
            importer = Importer(Bounds(**bounds))
            stack.callback(importer.close)
            return importer

        yield made


def run(importer: Importer, content: bytes, limits: ArchiveLimits = LIMITS) -> DatasetReport:
    """Import an upload; returns its report."""
    with spooled(content) as source, tempfile.TemporaryFile() as target:
        return importer.run(source, target, limits).report


def refused(importer: Importer, content: bytes) -> str:
    """Import an invalid upload; returns the error code."""
    with pytest.raises(DatasetError) as caught:
        run(importer, content)
    return caught.value.code


def test_a_child_makes_what_this_process_would_make(make: Make) -> None:
    expected = io.BytesIO()
    with SAMPLE_ARCHIVE.open("rb") as source, tempfile.TemporaryFile() as target:
        imported = make().run(source, target, LIMITS)
        assert imported == import_photos(source, expected, LIMITS)
        assert target.read() == expected.getvalue()


def test_an_upload_that_still_is_in_memory_is_imported(make: Make) -> None:
    assert run(make(), zipped(shop(a=10)).getvalue()).images == 10
    assert refused(make(), zipped(shop(a=3)).getvalue()) == "too_few_images"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_child_that_dies_refuses_its_upload_and_no_other(
    make: Make, signum: signal.Signals
) -> None:
    importer = make()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(refused, importer, SLOW)
        os.kill(next_import(), signum)
        assert answer.result(10) == "invalid_dataset"
    assert imports() == set()
    assert run(importer, zipped(shop(a=10)).getvalue()).images == 10


def test_what_starts_imports_is_started_again_when_it_dies(make: Make) -> None:
    importer, known = make(at_once=1), children()
    content = zipped(shop(a=10)).getvalue()
    assert run(importer, content).images == 10
    (idle,) = children() - known
    os.kill(idle, signal.SIGKILL)
    wait_for_the_end_of(idle)
    assert run(importer, content).images == 10
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(refused, importer, SLOW)
        next_import()
        (busy,) = children() - known
        wait_until_it_has_told_of_its_fork(busy)
        os.kill(busy, signal.SIGKILL)
        assert answer.result(10) == "invalid_dataset"
    assert run(importer, content).images == 10


def test_a_child_that_takes_too_long_is_ended(make: Make) -> None:
    importer = make(timeout_s=0.5)
    started = time.monotonic()
    assert refused(importer, SLOW) == "invalid_dataset"
    assert time.monotonic() - started < 5
    assert imports() == set()


def test_a_photo_that_takes_too_long_is_skipped_by_its_child(make: Make) -> None:
    content = zipped({**shop(a=10), "a/slow.jpg": many_exif_segments()}).getvalue()
    report = run(make(), content, ArchiveLimits(photo_s=1))
    assert (report.images, report.skipped_counts) == (10, {"too_slow": 1})


def test_a_child_that_wants_too_much_memory_is_refused_it(make: Make) -> None:
    content = zipped({**shop(a=10), "a/huge.png": HUGE}).getvalue()
    small = make(memory_bytes=320 * 2**20)
    assert refused(small, content) == "invalid_dataset"
    for importer, members in (
        (make(), content),
        (small, zipped(shop(a=11)).getvalue()),
    ):
        assert run(importer, members).images == 11


def test_an_abandoned_import_ends_its_child_at_once(make: Make) -> None:
    importer, gone = make(at_once=1), threading.Event()
    with (
        ThreadPoolExecutor(2) as pool,
        spooled(SLOW) as source,
        spooled(SLOW) as waiting,
        tempfile.TemporaryFile() as target,
        tempfile.TemporaryFile() as other,
    ):
        first = pool.submit(importer.run, source, target, LIMITS, gone.is_set)
        child = next_import()
        second = pool.submit(importer.run, waiting, other, LIMITS, gone.is_set)
        gone.set()
        for answer in (first, second):
            with pytest.raises(ImportAbandoned):
                answer.result(5)
        wait_for_the_end_of(child)
    assert imports() == set()
    assert run(importer, zipped(shop(a=10)).getvalue()).images == 10


def test_an_import_shows_its_progress_and_ends_where_that_raises(make: Make) -> None:
    importer, shown = make(), [0.0]
    evenly = zipped({**shop(a=10), **{f"b/{n}.png": LARGE for n in range(12)}}).getvalue()

    def show(share: float) -> None:
        shown.append(share)

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with tempfile.TemporaryFile() as target:
        with spooled(evenly) as source:
            importer.run(source, target, LIMITS, progress=show)
        assert shown == sorted(shown)
        assert len({share for share in shown if 0 < share < 1}) >= 3
        with spooled(evenly) as source, pytest.raises(KeyboardInterrupt):
            importer.run(source, target, LIMITS, progress=stop)
    assert imports() == set()


def test_children_are_ended_with_their_importer(make: Make) -> None:
    importer = make()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ended, importer)
        next_import()
        importer.close()
        answer.result(5)
    with pytest.raises(TooManyImports):
        run(importer, zipped(shop(a=10)).getvalue())


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "slow.zip").write_bytes(SLOW)
    program = (
        "import sys; from worker.datasets.importing import *;"
        "from models.data.archive import ArchiveLimits;"
        "Importer(Bounds()).run(open(sys.argv[1], 'rb'), tempfile.TemporaryFile(), ArchiveLimits())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "slow.zip")])
    child = next_import(parent.pid)
    parent.kill()
    parent.wait()
    wait_for_the_end_of(child)


def test_a_full_disk_is_not_the_uploads_fault(make: Make) -> None:
    with (
        spooled(SAMPLE_ARCHIVE.read_bytes()) as source,
        open("/dev/full", "w+b", buffering=0) as target,
        pytest.raises(StorageFull),
    ):
        make().run(source, target, LIMITS)


def test_few_run_at_once_some_wait_and_the_others_are_sent_away(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "WAITING", 1)
    importer = make(at_once=1)
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
            most = max(most, len(imports()))
        return most

    with ThreadPoolExecutor(7) as pool:
        counted = pool.submit(count)
        done = list(pool.map(attempt, range(6)))
        over.set()
        assert (done.count(True), counted.result()) == (2, 1)


def test_a_child_is_given_no_secret_and_nothing_but_its_files(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    importer = make()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ended, importer)
        pid = next_import()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        priority = os.getpriority(os.PRIO_PROCESS, pid)
        mapped = Path(f"/proc/{pid}/maps").read_text()
        importer.close()
        answer.result(5)
    assert b"secret" not in environment
    assert priority == max(os.getpriority(os.PRIO_PROCESS, 0), 10)
    assert "libtorch" not in mapped
    assert "PIL" in mapped


def test_a_glance_refuses_what_a_directory_shows_and_leaves_the_rest(make: Make) -> None:
    with pytest.raises(DatasetError, match="folder per category"):
        check_directory(zipped({"1.png": b""}), LIMITS)
    many = zipped({f"a/{n}.png": b"" for n in range(1500)})
    check_directory(many, LIMITS)
    with pytest.raises(DatasetError, match="at most 1,200 files"):
        run(make(), many.getvalue(), ArchiveLimits(members=1200))


def decoded(importer: Importer, content: bytes, max_side: int = 64) -> Image.Image:
    """Decode a single photo."""
    with spooled(content) as source:
        pixels = importer.decode(source, max_side)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_single_photo_is_decoded_as_in_this_process(make: Make, mode: str) -> None:
    content = saved(noise(1, (90, 60), mode))
    found = decoded(make(), content)
    assert found.size == (64, 43)
    assert found.mode == mode
    assert found.tobytes() == decode(content, max_side=64).tobytes()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"no image", "corrupt"),
        (b"%PDF-1.7", "unsupported"),
        (saved(noise(1), "jpeg")[:200], "corrupt"),
        (HUGE[:40] + b"\0" + HUGE[41:], "corrupt"),
    ],
)
def test_a_file_that_is_no_photo_is_refused(make: Make, content: bytes, kind: str) -> None:
    importer = make()
    with pytest.raises(ImageError) as caught:
        decoded(importer, content)
    assert caught.value.kind == kind
    assert decoded(importer, saved(noise(1))).size == (40, 30)


def test_a_photo_that_takes_too_long_or_kills_its_decoder_is_refused(make: Make) -> None:
    with pytest.raises(ImageError) as caught:
        decoded(make(timeout_s=0.05), HUGE)
    assert caught.value.kind == "too_slow"
    importer = make()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(decoded, importer, many_exif_segments())
        os.kill(next_import(), signal.SIGSEGV)
        with pytest.raises(ImageError):
            answer.result(10)
    assert decoded(importer, saved(noise(1))).size == (40, 30)
