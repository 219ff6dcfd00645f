"""What a disk holds after a power cut: by POSIX, what was synced, and any part of the rest.

The content of a file is on the disk once the file was synced; a name is, once its folder was synced
after the name was made. Of the rest, each name may be there or not, with an empty file where the
content was not synced. Every file system promises more than that, but not the same.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.power.recorder import Record, Recorder


@dataclass
class File:
    """A file; `token` names the fsync that has stored its content, of `size` bytes."""

    writes: int = 0
    token: str | None = None
    size: int = 0


@dataclass
class Folder:
    """A folder: the names that processes see, and those that are on the disk."""

    names: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)
    syncs: int = 0  # number of the sync that `synced` is of


@dataclass(frozen=True)
class _Sync:
    """An fsync that has begun, and what it stores."""

    number: int
    of: File | Folder
    names: "dict[str, File | Folder]"
    writes: int


class Disk:
    """Replays the log of a recorder, from an empty root folder that is on the disk."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.root = Folder()
        self._files: dict[int, File] = {}  # by inode
        self._begun: dict[str, _Sync] = {}

    def replay(self, record: Record) -> None:
        """Do the next call of the log."""
        match record:
            case ("write", [inode]):
                self._files[int(inode)].writes += 1
                self._files[int(inode)].token = None
            case ("sync", [token, "folder", path]):
                self._begin(token, self._find(path))
            case ("sync", [token, "file", inode]):
                self._begin(token, self._files[int(inode)])
            case ("synced", [token, size]):
                self._end(token, int(size))
            case _:
                self._change_names(record)

    def leave(self, target: Path, chance: random.Random | None = None) -> None:
        """Make the new folder `target` hold what a power cut would leave at this moment.

        What was not synced is lost, or each name of it kept or not by `chance`.
        """
        self._leave(self.root, target, chance)

    def at_risk(self) -> int:
        """Number of names that are not on the disk as processes see them."""
        return sum(
            folder.names.get(name) is not folder.synced.get(name)
            for folder in self._folders(self.root)
            for name in folder.names.keys() | folder.synced.keys()
        )

    def differences(self) -> list[str]:
        """Names that are in the real folder or here, but not in both: what was not recorded."""
        here, real = set(self._visible(self.root, self.recorder.root)), set()
        for parent, folders, files in os.walk(self.recorder.root):
            folders[:] = [name for name in folders if Path(parent, name) != self.recorder.skip]
            real |= {Path(parent, name) for name in (*folders, *files)}
        return sorted(map(str, here ^ real))

    def _change_names(self, record: Record) -> None:
        match record:
            case ("mkdir", [path]):
                self._put(path, Folder())
            case ("create", [path, inode]):
                self._files[int(inode)] = File()
                self._put(path, self._files[int(inode)])
            case ("link", [path, new]):
                self._put(new, self._find(path))
            case ("rename", [path, new]):
                self._put(new, self._folder(path).names.pop(_name(path)))
            case ("unlink", [path]):
                del self._folder(path).names[_name(path)]

    def _leave(self, folder: Folder, target: Path, chance: random.Random | None) -> None:
        target.mkdir()
        for name in sorted(folder.names.keys() | folder.synced.keys()):
            before, now = folder.synced.get(name), folder.names.get(name)
            left = before if chance is None else chance.choice((before, now))
            match left:
                case Folder():
                    self._leave(left, target / name, chance)
                case File(token=None):
                    (target / name).touch()
                case File(token=str(token)):
                    copy = self.recorder.copy(token)
                    assert copy.stat().st_size == left.size, f"{name} was written to after its sync"
                    os.link(copy, target / name)

    def _folders(self, folder: Folder) -> Iterator[Folder]:
        yield folder
        for node in folder.names.values():
            if isinstance(node, Folder):
                yield from self._folders(node)

    def _visible(self, folder: Folder, path: Path) -> list[Path]:
        found = []
        for name, node in folder.names.items():
            found.append(path / name)
            if isinstance(node, Folder):
                found += self._visible(node, path / name)
        return found

    def _begin(self, token: str, of: File | Folder) -> None:
        names = dict(of.names) if isinstance(of, Folder) else {}
        writes = of.writes if isinstance(of, File) else 0
        self._begun[token] = _Sync(len(self._begun) + 1, of, names, writes)

    def _end(self, token: str, size: int) -> None:
        sync = self._begun[token]
        if isinstance(sync.of, File):
            if sync.writes == sync.of.writes:
                sync.of.token, sync.of.size = token, size
        elif sync.number > sync.of.syncs:  # else a later one has ended before
            sync.of.synced, sync.of.syncs = sync.names, sync.number

    def _put(self, path: str, node: File | Folder) -> None:
        self._folder(path).names[_name(path)] = node

    def _find(self, path: str) -> File | Folder:
        """The file or folder that processes see at this path."""
        node: File | Folder = self.root
        for part in Path(path).relative_to(self.recorder.root).parts:
            assert isinstance(node, Folder)
            node = node.names[part]
        return node

    def _folder(self, path: str) -> Folder:
        """The folder that this path is in."""
        parent = self._find(os.path.dirname(path))
        assert isinstance(parent, Folder)
        return parent


def _name(path: str) -> str:
    return os.path.basename(path)
