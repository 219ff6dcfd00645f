"""One contract, three stores: a folder, memory, and S3 over real HTTP."""

import errno
import io
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from worker.storage import (
    ObjectExists,
    ObjectNotFound,
    Storage,
    StorageError,
    StorageFull,
)


@pytest.fixture(params=["file", "memory", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "s3":
        environment: dict[str, str] = request.getfixturevalue("s3_environment")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Storage.open(f"s3://vitrine/{tmp_path.name}")
    return Storage.open("memory://" if request.param == "memory" else f"file://{tmp_path}/a/b")


def test_what_is_put_is_read_and_replaced(store: Storage) -> None:
    store.put("a/b.bin", b"one")
    assert store.read("a/b.bin") == b"one"
    store.put("a/b.bin", b"three")
    assert store.read("a/b.bin") == b"three"
    assert store.size("a/b.bin") == 5


def test_a_large_file_travels_whole(store: Storage, tmp_path: Path) -> None:
    content = os.urandom(20_000_003)
    (tmp_path / "source").write_bytes(content)
    store.put("by-path", tmp_path / "source")
    store.put("by-handle", io.BytesIO(content))
    target = io.BytesIO()
    store.download("by-path", target)
    assert target.getvalue() == content
    assert b"".join(store.stream("by-handle")) == content


class FailingSource(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise OSError(errno.EIO, "the disk is broken")
        return super().read(size)


def test_a_write_that_fails_midway_changes_nothing(store: Storage) -> None:
    store.put("a/old", b"before")
    for key in ("a/old", "a/new"):
        with pytest.raises(StorageError):
            store.put(key, FailingSource(bytes(20_000_000)))
    assert list(store.keys("a")) == ["a/old"]
    assert store.read("a/old") == b"before"


def test_create_refuses_what_exists(store: Storage) -> None:
    store.create("once", b"first")
    with pytest.raises(ObjectExists):
        store.create("once", b"second")
    assert store.read("once") == b"first"


def test_of_many_creators_at_once_one_succeeds(store: Storage) -> None:
    def create(number: int) -> bool:
        try:
            store.create("contested", str(number).encode())
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert store.read("contested") == str(won.index(True)).encode()


def test_a_missing_object_is_said_to_be_missing(store: Storage) -> None:
    for look in (store.read, store.size, store.stream):
        with pytest.raises(ObjectNotFound):
            look("nothing/here")
    with pytest.raises(ObjectNotFound):
        store.download("nothing/here", io.BytesIO())
    assert not store.exists("nothing/here")
    store.delete("nothing/here")


def test_keys_and_folders_are_listed_in_order(store: Storage) -> None:
    for key in ("m/b/2.json", "m/a/1.json", "m/a/x/3.json", "n/4.json"):
        store.put(key, b"")
    assert list(store.keys("m")) == ["m/a/1.json", "m/a/x/3.json", "m/b/2.json"]
    assert store.folders("m") == ["a", "b"]
    assert store.folders("m/a") == ["x"]
    assert list(store.keys("nowhere")) == store.folders("nowhere") == []


def test_a_deleted_object_is_gone(store: Storage) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    assert not store.exists("a/b")


FOREIGN = ("my file", "été.png", "line\nbreak", os.fsdecode(b"latin-\xe9"))


def test_what_cannot_be_a_key_is_not_listed(tmp_path: Path) -> None:
    store = Storage.open(f"file://{tmp_path}")
    store.put("m/a/1.json", b"x")
    for name in FOREIGN:
        (tmp_path / "m" / "a" / name).write_bytes(b"x")
        (tmp_path / "m" / f"folder {name}").mkdir()
        (tmp_path / "m" / f"folder {name}" / "file").write_bytes(b"x")
    (tmp_path / "m" / "a" / "link").symlink_to("link")
    assert store.sizes("m") == {"m/a/1.json": 1}
    assert store.folders("m") == ["a"]


def test_foreign_objects_of_a_bucket_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_environment: dict[str, str]
) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    store = Storage.open(f"s3://vitrine/{tmp_path.name}")
    store.put("m/a/1.json", b"x")
    obstore.put(
        S3Store.from_url(f"s3://vitrine/{tmp_path.name}", client_options={"allow_http": True}),
        "m/b c/x",
        b"",
    )
    assert list(store.keys("m")) == ["m/a/1.json"]
    assert store.folders("m") == ["a"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that are synced in a test, in order."""
    found: list[Path] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return found


def test_what_is_stored_in_a_folder_is_on_the_disk(tmp_path: Path, synced: list[Path]) -> None:
    store = Storage.open(f"file://{tmp_path}/objects")
    for write in (store.put, store.create):
        synced.clear()
        write(f"new-{write.__name__}/key", b"x")
        new = tmp_path / "objects" / f"new-{write.__name__}"
        [folder_of_new, content, folder] = synced
        assert (folder_of_new, folder) == (new.parent, new)
        assert content.name.startswith("key#")
        assert [path.name for path in new.iterdir()] == ["key"]


def test_the_folder_of_a_store_is_on_the_disk(tmp_path: Path, synced: list[Path]) -> None:
    (tmp_path / "data").mkdir()
    Storage.open(f"file://{tmp_path}/data/deep/objects")
    assert synced[-3:] == [tmp_path, tmp_path / "data", tmp_path / "data" / "deep"]


def test_a_folder_that_another_process_has_just_made_is_on_the_disk(
    tmp_path: Path, synced: list[Path]
) -> None:
    store = Storage.open(f"file://{tmp_path}")
    (tmp_path / "a" / "b").mkdir(parents=True)
    synced.clear()
    store.put("a/b/key", b"x")
    assert synced[:2] == [tmp_path, tmp_path / "a"]
    synced.clear()
    store.put("a/b/key", b"x")
    assert [path.name[:4] for path in synced] == ["key#", "b"]


def test_an_object_that_is_told_to_exist_is_on_the_disk(tmp_path: Path, synced: list[Path]) -> None:
    store = Storage.open(f"file://{tmp_path}")
    store.create("a/key", b"x")
    synced.clear()
    with pytest.raises(ObjectExists):
        store.create("a/key", b"y")
    assert synced[-1] == tmp_path / "a"


def test_what_is_deleted_from_a_folder_does_not_come_back(
    tmp_path: Path, synced: list[Path]
) -> None:
    store = Storage.open(f"file://{tmp_path}")
    for key in ("a/1", "a/2", "a/b/3", "a/b/4"):
        store.put(key, b"x")
    synced.clear()
    store.delete("a/1")
    assert synced == [tmp_path / "a"]
    synced.clear()
    store.clear("a")
    assert sorted(synced) == [tmp_path / "a", tmp_path / "a" / "b"]
    assert list(store.keys("a")) == []


def test_an_unfinished_write_is_no_object(tmp_path: Path) -> None:
    store = Storage.open(f"file://{tmp_path}")
    store.put("m/key", b"x")
    (tmp_path / "m" / "key#0123456789abcdef").write_bytes(b"half")
    assert list(store.keys("m")) == ["m/key"]


def test_a_folder_that_has_become_empty_is_no_folder(store: Storage) -> None:
    store.put("m/gone/1", b"")
    store.put("m/here/1", b"")
    store.delete("m/gone/1")
    assert store.folders("m") == ["here"]


def test_writers_and_deleters_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = Storage.open(f"file://{tmp_path}/objects")

    def come_and_go(number: int) -> None:
        for _ in range(800):
            store.put(f"folder/{number}", b"x")
            store.delete(f"folder/{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(come_and_go, range(6)))


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "../a", "a/../b", "a/./b", "a b", "a\n", "a#1", "x" * 600]
)
def test_a_key_that_is_not_ours_is_a_programming_error(store: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="storage key"):
        store.put(key, b"")


@pytest.mark.parametrize("name", ["a b", "a#b", "a%20b", "a?b", "été"])
def test_a_folder_is_taken_as_it_is_written(tmp_path: Path, name: str) -> None:
    Storage.open(f"file://{tmp_path}/{name}/objects").put("key", b"x")
    assert (tmp_path / name / "objects" / "key").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["file://objects", "file://", "file://./objects"])
def test_a_relative_folder_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="absolute"):
        Storage.open(url)


def test_an_object_comes_in_pieces_and_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    store = Storage.open(f"file://{tmp_path}")
    store.put("key", bytes(20_000_000))
    assert len(list(store.stream("key"))) > 1
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(StorageFull):
        store.download("key", full)


def test_a_full_store_is_told_apart_and_keeps_nothing_of_the_write() -> None:
    """Uses a file system of 1 MiB in a mount namespace of its own."""
    program = (
        "from worker.storage import *\n"
        "store = Storage.open('file:///mnt')\n"
        "try: store.put('a/b', bytes(8_000_000))\n"
        "except StorageFull: print('full', list(store.keys('a')))\n"
    )
    shell = 'mount -t tmpfs -o size=1m none /mnt && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell]
    ended = subprocess.run([*command, sys.executable, program], capture_output=True, text=True)
    if ended.stderr.startswith(("unshare:", "mount:")):  # not a word in some traceback
        pytest.skip("this machine gives no name space of one's own")
    assert ended.stdout == "full []\n", ended.stderr


def test_an_unknown_kind_of_store_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StorageError, match=r"file://, memory://, s3://, gs:// or az://"):
        Storage.open("ftp://somewhere")


@pytest.mark.parametrize("listening", [True, False])
def test_a_store_that_is_silent_or_away_fails_soon_and_the_error_names_no_address(
    monkeypatch: pytest.MonkeyPatch, listening: bool
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        if not listening:
            silent.close()
        started = time.monotonic()
        with pytest.raises(StorageError) as caught:
            Storage.open("s3://vitrine").read("a")
    assert str(caught.value) == "the object store failed to read"
    assert time.monotonic() - started < 15


def test_a_prefix_keeps_two_services_in_one_bucket_apart(
    monkeypatch: pytest.MonkeyPatch, s3_environment: dict[str, str]
) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    Storage.open("s3://vitrine/one/part").put("a/key", b"x")
    assert list(Storage.open("s3://vitrine/one/part").keys("a")) == ["a/key"]
    assert list(Storage.open("s3://vitrine/one").keys("part")) == ["part/a/key"]
    assert not Storage.open("s3://vitrine/two").exists("a/key")
