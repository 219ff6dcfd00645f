"""One object store: a folder, memory, S3, Google Cloud Storage or Azure, by its URL.

Keys are made by the server from its own ids. Credentials and endpoints come from the environment
that each cloud's own tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import (
    AzureStore,
    GCSStore,
    LocalStore,
    MemoryStore,
    ObjectStore,
    S3Store,
    from_url,
)

if TYPE_CHECKING:
    from obstore import Attributes

KEY = re.compile(r"^[A-Za-z0-9._@-]+(/[A-Za-z0-9._@-]+)*$")
MAX_KEY = 512
CHUNK_BYTES = 8 * 2**20
CLOUDS = ("s3", "gs", "az")
RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
# These options replace what obstore reads from AWS_ALLOW_HTTP. Plain HTTP is still only used where
# the operator's own endpoint says http://, as a store in the same private network does.
CLIENT = {
    "connect_timeout": "5s",
    "read_timeout": "10s",  # of silence: a store that hangs is an error soon, a large object is not
    "timeout": "1h",
    "allow_http": True,
}
PARTS_AT_ONCE = 4  # of 5 MiB: each has to travel within the read timeout


class StorageError(Exception):
    """The store failed; the message names no path, address or credential."""


class ObjectNotFound(StorageError):
    """There is no object under this key."""


class ObjectExists(StorageError):
    """There is an object under this key already."""


class StorageFull(StorageError):
    """The store has no room."""


class CannotSign(StorageError):
    """The store has no addresses that we could sign."""


class SignedRequest(NamedTuple):
    """An address that gives or takes one object, and what has to be sent along with it."""

    url: str
    headers: dict[str, str]


class Storage:
    """Bytes by key. Every write is atomic: an object is there whole, or not at all."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, url: str) -> "Storage":
        """The store at `file:///folder`, `memory://`, `s3://bucket/prefix`, `gs://` or `az://`.

        A folder is taken as it is written: nothing in it is escaped.

        Raises:
            StorageError: not such a URL, or it cannot be opened.
        """
        scheme, _, place = url.partition("://")
        if scheme == "file" and not place.startswith("/"):
            raise StorageError("a file:// URL names an absolute folder: file:///folder")
        with _translated("open the store"):
            if scheme == "memory":
                return cls(MemoryStore())
            if scheme == "file":
                # No automatic cleanup: it removes folders that another thread is writing to.
                return cls(LocalStore(place, mkdir=True))
            if scheme in CLOUDS:
                return cls(from_url(url, retry_config=RETRY, client_options=CLIENT))  # type: ignore[call-overload] # one option set for three clouds
        raise StorageError("a storage URL starts with file://, memory://, s3://, gs:// or az://")

    def put(self, key: str, data: bytes | Path | BinaryIO, media_type: str | None = None) -> None:
        """Store, replacing what was there. A file is streamed, not held in memory.

        Clouds tell the media type to whoever reads a signed URL.
        """
        told: Attributes | None = None
        if media_type is not None and not isinstance(self._store, LocalStore):
            told = {"Content-Type": media_type}
        with _translated("write"):
            obstore.put(
                self._store, _checked(key), data, attributes=told, max_concurrency=PARTS_AT_ONCE
            )

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
            for piece in self.stream(key):
                target.write(piece)

    def stream(self, key: str) -> Iterator[bytes]:
        """The object piece by piece. That there is one is known when this returns.

        Raises:
            ObjectNotFound: there is none.
        """
        with _translated("read"):
            return _pieces(obstore.get(self._store, _checked(key)))

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

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of every object below the folder `prefix`, by key, sorted."""
        with _translated("list"):
            pages = obstore.list(self._store, _checked(prefix))
            return dict(sorted((meta["path"], meta["size"]) for page in pages for meta in page))

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key below the folder `prefix`, sorted."""
        return iter(self.sizes(prefix))

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below the folder `prefix`, sorted."""
        with _translated("list"):
            found = obstore.list_with_delimiter(self._store, _checked(prefix))["common_prefixes"]
            return sorted(path.rsplit("/", 1)[-1] for path in found if self._holds_any(path))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            with _translated("delete"):
                obstore.delete(self._store, _checked(key))
        except ObjectNotFound:
            pass

    def clear(self, prefix: str) -> None:
        """Remove every object below the folder `prefix`."""
        for key in self.keys(prefix):
            self.delete(key)

    def sign(self, method: Literal["GET", "PUT"], key: str, valid: timedelta) -> SignedRequest:
        """Let whoever knows the address read or store this object, for a while.

        Raises:
            CannotSign: the store is not in a cloud.
        """
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            raise CannotSign("this object store has no addresses to sign")
        with _translated("sign"):
            url = obstore.sign(self._store, method, _checked(key), valid)
        azure = isinstance(self._store, AzureStore) and method == "PUT"
        return SignedRequest(url, {"x-ms-blob-type": "BlockBlob"} if azure else {})

    def _holds_any(self, folder: str) -> bool:
        """Only a folder on disk can be empty; elsewhere it is the objects that make it."""
        if not isinstance(self._store, LocalStore):
            return True
        return any(obstore.list(self._store, folder, chunk_size=1))


def _pieces(result: "obstore.GetResult") -> Iterator[bytes]:
    with _translated("read"):
        for piece in result.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)


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
        if is_full(error):
            raise StorageFull("the object store is full") from error
        raise StorageError(f"the object store failed to {action}") from error


def is_full(error: BaseException | None) -> bool:
    """Whether there was no room to write."""
    # By the kernel's words: obstore gives the cause as text alone.
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def _checked(key: str) -> str:
    if not KEY.fullmatch(key) or len(key) > MAX_KEY or {".", ".."} & set(key.split("/")):
        raise ValueError(f"not a storage key: {key!r}")
    return key
