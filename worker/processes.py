"""Process control: parent-death signal, file lock, SIGTERM followed by SIGKILL.

The first two hold even when a process is ended by SIGKILL, because the kernel enforces them.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from typing import IO

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Have the kernel send `signum` to this process when its parent dies. Linux only.

    To the kernel, the parent is the thread that started this process, so that thread must stay
    alive. If the process `parent` is gone already, this one exits at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


def take_lock(file: IO[str], *, within_s: float) -> bool:
    """Lock the file for this process and the children that inherit it; False if it stays taken."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def end(process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    """Send SIGTERM and, after `timeout_s`, SIGKILL to its process group, which it must lead."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
