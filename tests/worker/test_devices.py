"""The GPU lock, between processes."""

import os
import subprocess
import sys

import pytest
import torch

from worker.devices import device_lock, exclusively

HOLDER = """
import sys, time
from worker.devices import exclusively
with exclusively(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_device_is_held_by_one_process_until_it_dies() -> None:
    name = f"vitrine-test-{os.getpid()}"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, name], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RuntimeError, match="another process"), exclusively(name, within_s=0.1):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with exclusively(name, within_s=0.1):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_jobs_of_two_queues_share_a_gpu() -> None:
    with device_lock("vitrine-generate"), device_lock("vitrine-train"):
        pass
