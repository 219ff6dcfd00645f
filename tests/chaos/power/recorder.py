"""Recorder of a process's writes, syncs and answers: `record_writes.c` loaded into all of them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("record_writes.c")
NEEDS = "power cuts are simulated by a library in C: this needs Linux and a C compiler named cc"


def is_possible() -> bool:
    """Whether this machine has what a recorder needs."""
    return sys.platform == "linux" and shutil.which("cc") is not None


class Record(NamedTuple):
    """One line of the log, as `record_writes.c` describes them."""

    call: str
    arguments: list[str]


class Recorder:
    """Records what the processes with this `environment` do below the new folder `root`.

    `skip` is a folder below it whose files may be lost.
    """

    def __init__(self, folder: Path, root: Path, skip: Path) -> None:
        self.root = root
        root.mkdir()
        self.skip = skip
        self.log = folder / "writes.log"
        library = folder / "record_writes.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "RECORD_ROOT": str(root),
            "RECORD_SKIP": str(skip),
            "RECORD_LOG": str(self.log),
        }

    def records(self) -> Iterator[Record]:
        """What has been logged so far."""
        with self.log.open() as lines:
            for line in lines:
                call, *arguments = line.rstrip("\n").split("\t")
                yield Record(call, arguments)

    def copy(self, token: str) -> Path:
        """A file as it was when its fsync ended."""
        return self.log.with_name(f"{self.log.name}.{token}")
