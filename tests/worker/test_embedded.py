"""Embedded mode's parts: the Valkey server, the folder's lock."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.processes import running, wait_until
from worker.embedded import DataFolderBusy, lock_data_folder
from worker.embedded_valkey import EmbeddedValkey, ValkeyFailed, kept_running


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
    innocent = subprocess.Popen(["sleep", "60"])
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
            wait_until(partial(answers, server, first), "it was not started again")
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
