"""Embedded mode's parts: the Valkey server, the folder's lock, the worker that is kept alive."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.__main__ import NICENESS
from worker.embedded import (
    DataFolderBusy,
    WorkerProcess,
    lock_data_folder,
)
from worker.embedded_valkey import EmbeddedValkey, ValkeyFailed, kept_running

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def wait_until(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_data_outlives_a_clean_end_and_the_server_does_not(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server:
        pid = server.pid
        Redis.from_url(server.url).set("key", "value")
    assert not running(pid)
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


def test_data_outlives_a_killed_server(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server:
        with Redis.from_url(server.url) as client:
            client.set("key", "value")
        time.sleep(1.2)  # the append-only file is flushed every second
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not running(server.pid), "the server outlived SIGKILL")
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


OWNER = """
import sys, time
from pathlib import Path
from redis import Redis
from worker.embedded_valkey import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
Redis.from_url(server.url).set("key", "value")
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def left_behind(tmp_path: Path) -> int:
    """A running server whose owner was killed."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert running(pid)
    return pid


def test_a_server_left_behind_is_ended_before_the_next_starts(
    tmp_path: Path, left_behind: int
) -> None:
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert server.pid != left_behind
        assert not running(left_behind)
        assert client.get("key") == b"value"


def test_a_server_left_behind_that_hangs_is_killed(
    tmp_path: Path, left_behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.embedded_valkey.STOP_S", 0.5)
    time.sleep(1.2)  # the append-only file is flushed every second
    os.kill(left_behind, signal.SIGSTOP)
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert not running(left_behind)
        assert client.get("key") == b"value"


def test_a_process_that_has_the_number_of_an_earlier_server_is_left_alone(tmp_path: Path) -> None:
    innocent = subprocess.Popen(SLEEP)
    (tmp_path / "valkey.lock").write_text(str(innocent.pid))
    with EmbeddedValkey(tmp_path):
        pass
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_server_that_cannot_start_says_where_to_look(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        client.set("key", "value")
    (tmp_path / "valkey.log").unlink()
    (tmp_path / "valkey.log").mkdir()
    with pytest.raises(ValkeyFailed, match="valkey.log"):
        EmbeddedValkey(tmp_path).start()
    # Its data was not the cause, and is still there.
    (tmp_path / "valkey.log").rmdir()
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


@pytest.mark.parametrize("damage", [b"garbage", b"*3\r\n$3\r\nSET\r\n$9999\r\nkey"])
def test_a_damaged_file_is_set_aside_and_the_server_starts_empty(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        for number in range(100):
            client.set(f"key-{number}", "value")
    (file,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + damage + content[middle:])
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert client.dbsize() == 0
    (aside,) = tmp_path.glob("appendonlydir.damaged-*")
    assert (aside / file.name).read_bytes()[middle:].startswith(damage)
    assert str(aside) in caplog.text


def test_a_server_that_dies_is_started_again_with_its_data(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, kept_running(server):
        with Redis.from_url(server.url) as client:
            client.set("key", "value")
        time.sleep(1.2)  # the append-only file is flushed every second
        for _ in range(2):
            first = server.pid
            os.kill(first, signal.SIGKILL)
            wait_until(lambda first=first: answers(server, first), "it was not started again")
            with Redis.from_url(server.url) as client:
                assert client.get("key") == b"value"
        last = server.pid
    assert not running(last)


def answers(server: EmbeddedValkey, former: int) -> bool:
    """Whether another process than the former one serves."""
    try:
        with Redis.from_url(server.url) as client:
            return server.pid != former and bool(client.ping())
    except RedisConnectionError:
        return False


def test_nothing_is_evicted_and_everything_is_appended(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


@pytest.mark.parametrize("name", ["a b", "a#b", "a%20b", "a?b", "été", "o'clock"])
def test_a_folder_of_any_name_works(tmp_path: Path, name: str) -> None:
    with EmbeddedValkey(tmp_path / name) as server, Redis.from_url(server.url) as client:
        assert client.ping()
    assert (tmp_path / name / "appendonlydir").is_dir()


def test_a_folder_of_a_very_long_name_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    with EmbeddedValkey(folder) as server, Redis.from_url(server.url) as client:
        assert client.ping()
        socket_folder = server.socket.parent
    assert not socket_folder.exists()


def test_a_stopped_server_is_away(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    server.stop()
    with pytest.raises(RedisConnectionError), Redis.from_url(server.url) as client:
        client.ping()


def test_a_second_instance_on_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    first = lock_data_folder(tmp_path)
    with pytest.raises(DataFolderBusy) as caught:
        lock_data_folder(tmp_path)
    message = str(caught.value)
    assert str(os.getpid()) in message
    assert str(tmp_path) in message
    assert "\n" not in message
    first.close()
    lock_data_folder(tmp_path).close()


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    worker = WorkerProcess({"FOLDER": str(tmp_path)}, SLEEP)
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: worker.pid != first and running(worker.pid), "no second worker came")
    assert worker.restarts == 1
    last = worker.pid
    worker.stop()
    assert not running(last)


TOLD = """
import os, signal, sys, time
from pathlib import Path
from worker.processes import die_with_parent
die_with_parent(signal.SIGTERM, os.getppid())
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("SIGTERM"))
Path(sys.argv[1]).touch()
while not told:
    time.sleep(0.05)
time.sleep(1)
Path(sys.argv[1]).write_text(" ".join(told))
"""


def test_a_worker_that_was_started_again_is_told_to_end_once(tmp_path: Path) -> None:
    """A second SIGTERM would have RQ drop the job that it is handing back."""
    told = tmp_path / "told"
    worker = WorkerProcess({}, [sys.executable, "-c", TOLD, str(told)])
    wait_until(told.exists, "the worker did not start")
    told.unlink()
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(told.exists, "no second worker came")
    worker.stop()
    assert told.read_text() == "SIGTERM"


def test_a_worker_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    worker = WorkerProcess({}, [str(program)])
    program.rename(tmp_path / "away")
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(1.7)
    assert worker.restarts == 0
    (tmp_path / "away").rename(program)
    wait_until(lambda: worker.restarts == 1, "it was given up")
    worker.stop()
    assert not running(worker.pid)


def test_a_worker_that_ignores_sigterm_is_killed() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    worker = WorkerProcess({}, [sys.executable, "-c", deaf])
    time.sleep(0.5)
    worker.stop(timeout_s=0.5)
    assert not running(worker.pid)


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """When its parent is killed by SIGKILL, the worker must end too and take no more jobs."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        program = (
            "import os, subprocess, sys, time\n"
            "command = [sys.executable, '-m', 'worker', '--embedded', str(os.getpid())]\n"
            "worker = subprocess.Popen(command)\n"
            "print(worker.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        environment = os.environ | {
            "VITRINE_REDIS_URL": server.url,
            "VITRINE_STORAGE_URL": f"file://{tmp_path}/objects",
        }
        starter = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        with Redis.from_url(server.url) as client:
            wait_until(lambda: client.scard("rq:workers"), "the worker did not register")
        # Lower priority: a training uses every core, and the parent's requests must not wait.
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(own + NICENESS, 19)
        starter.kill()
        starter.wait()
        starter.stdout.close()
        wait_until(lambda: not running(pid), "the worker outlived its starter")
