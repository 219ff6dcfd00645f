"""Training states of a search in object storage, shared by its processes as a mapping."""

from collections.abc import Iterator, MutableMapping

from worker.ledger.artifacts import search_folder
from worker.storage import ObjectNotFound, Storage


class SharedStates(MutableMapping[str, bytes]):
    """Bytes by name, in the folder of one search."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self._storage = storage
        self._folder = search_folder(job_id)

    def __getitem__(self, name: str) -> bytes:
        try:
            return self._storage.read(self._key(name))
        except ObjectNotFound as error:
            raise KeyError(name) from error

    def __setitem__(self, name: str, data: bytes) -> None:
        self._storage.put(self._key(name), data)

    def __delitem__(self, name: str) -> None:
        self._storage.delete(self._key(name))

    def __iter__(self) -> Iterator[str]:
        return (key.rsplit("/", 1)[-1] for key in self._storage.keys(self._folder))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"
