"""Process inspection through `/proc`: children, memory, open files. Linux only."""

import os
import time
from collections.abc import Callable
from pathlib import Path

Pid = int | str  # "self" for this one


def children(pid: Pid = "self") -> set[int]:
    """Pids of the processes that any thread of `pid` started."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.update(map(int, task.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def imports(pid: Pid = "self") -> set[int]:
    """Pids of the processes that decode an upload for `pid` at this moment."""
    found: set[int] = set()
    for child in children(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"import_process" in command:
            found |= children(child)
    return found


def next_import(pid: Pid = "self") -> int:
    """Wait for an import to begin; returns the pid of its process."""
    deadline = time.monotonic() + 10
    while not (found := imports(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found.pop()


def running(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait up to 30 s until a condition holds; fails with `what`."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def resident_bytes(pid: Pid) -> int:
    """Resident memory; 0 if the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_temporary_files(pid: Pid = "self") -> int:
    """Number of deleted files that still take room because the process has them open.

    Standard input, output and error are not counted.
    """
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if link.name in ("0", "1", "2"):
            continue
        try:
            count += os.readlink(link).endswith(" (deleted)")
        except FileNotFoundError:
            continue
    return count
