"""One object store: a folder, memory, S3, Google Cloud Storage or Azure, by its URL.

Keys are made by the server from its own ids. Credentials and endpoints come from the environment
that each cloud's own tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

KEY = re.compile(r"^[A-Za-z0-9._@-]+(/[A-Za-z0-9._@-]+)*$")
MAX_KEY = 512
CHUNK_BYTES = 8 * 2**20
CLOUDS = ("s3", "gs", "az")
RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
CLIENT = {"timeout": "60s", "connect_timeout": "5s"}


class StorageError(Exception):
    """The store failed; the message names no path, address or credential."""


class ObjectNotFound(StorageError):
    """There is no object under this key."""


class ObjectExists(StorageError):
    """There is an object under this key already."""


class StorageFull(StorageError):
    """The store has no room."""


class Storage:
    """Bytes by key. Every write is atomic: an object is there whole, or not at all."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, url: str) -> "Storage":
        """The store at `file:///folder`, `memory://`, `s3://bucket/prefix`, `gs://` or `az://`.

        Raises:
            StorageError: not such a URL, or it cannot be opened.
        """
        scheme = urlsplit(url).scheme
        with _translated("open the store"):
            if scheme == "memory":
                return cls(MemoryStore())
            if scheme == "file":
                folder = Path(urlsplit(url).path)
                return cls(LocalStore(folder, mkdir=True, automatic_cleanup=True))
            if scheme in CLOUDS:
                return cls(from_url(url, retry_config=RETRY, client_options=CLIENT))  # type: ignore[call-overload] # one option set for three clouds
        raise StorageError("a storage URL starts with file://, memory://, s3://, gs:// or az://")

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store, replacing what was there. A file is streamed, not held in memory."""
        with _translated("write"):
            obstore.put(self._store, _checked(key), data)

    def create(self, key: str, data: bytes) -> None:
        """Store what must not be there yet; of several writers one succeeds.

        Raises:
            ObjectExists: it is there.
        """
        with _translated("create"):
            obstore.put(self._store, _checked(key), data, mode="create", use_multipart=False)

    def read(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectNotFound: there is none.
        """
        with _translated("read"):
            return obstore.get(self._store, _checked(key)).bytes().to_bytes()

    def download(self, key: str, target: BinaryIO) -> None:
        """Copy an object into an open file, piece by piece.

        Raises:
            ObjectNotFound: there is none.
        """
        with _translated("read"):
            for chunk in obstore.get(self._store, _checked(key)).stream(min_chunk_size=CHUNK_BYTES):
                target.write(chunk)

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        try:
            self.size(key)
        except ObjectNotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """Its length in bytes.

        Raises:
            ObjectNotFound: there is none.
        """
        with _translated("inspect"):
            return int(obstore.head(self._store, _checked(key))["size"])

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key below the folder `prefix`, sorted."""
        with _translated("list"):
            pages = obstore.list(self._store, _checked(prefix))
            yield from sorted(meta["path"] for page in pages for meta in page)

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below the folder `prefix`, sorted."""
        with _translated("list"):
            found = obstore.list_with_delimiter(self._store, _checked(prefix))
            return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            with _translated("delete"):
                obstore.delete(self._store, _checked(key))
        except ObjectNotFound:
            pass


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """obstore's errors as ours, without their words, which hold paths and addresses."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise ObjectNotFound("no such object") from error
    except (AlreadyExistsError, FileExistsError) as error:
        raise ObjectExists("the object exists already") from error
    except (BaseError, OSError) as error:
        if _is_full(error):
            raise StorageFull("the object store is full") from error
        raise StorageError(f"the object store failed to {action}") from error


def _is_full(error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT)
    # obstore gives the cause as text alone.
    return getattr(error, "errno", None) in full or "No space left on device" in str(error)


def _checked(key: str) -> str:
    if not KEY.match(key) or len(key) > MAX_KEY or ".." in key.split("/"):
        raise ValueError(f"not a storage key: {key!r}")
    return key
