"""Embedded mode: the lock of the data folder."""

import os
from pathlib import Path
from typing import IO

from worker.processes import take_lock


class DataFolderBusy(RuntimeError):
    """Another instance uses the data folder; the message has its process id."""


def lock_data_folder(folder: Path) -> IO[str]:
    """Lock the folder until the returned file is closed or this process ends.

    Raises:
        DataFolderBusy: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+")
    if not take_lock(file, within_s=0):
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DataFolderBusy(
            f"another Vitrine (process {owner}) uses the data folder {folder}; stop it,"
            " or set VITRINE_DATA_DIR to another folder"
        )
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
