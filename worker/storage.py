"""Object storage, opened by URL: a folder, memory, S3, Google Cloud Storage or Azure.

Keys are made by the server from its own ids. Credentials and endpoints come from the environment
variables that each cloud's own tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore

from worker import folder_files
from worker.cloud.stores import CLOUDS, Cloud, SignedRequest, open_cloud, presign

KEY = re.compile(r"^[A-Za-z0-9._@-]+(/[A-Za-z0-9._@-]+)*$")
MAX_KEY = 512
CHUNK_BYTES = 8 * 2**20
PARTS_AT_ONCE = 4  # of 5 MiB: each must be sent within the read timeout


class StorageError(Exception):
    """The store failed; the message names no path, address or credential."""


class ObjectNotFound(StorageError):
    """There is no object with this key."""


class ObjectExists(StorageError):
    """There already is an object with this key."""


class StorageFull(StorageError):
    """The store has no space left."""


class CannotSign(StorageError):
    """The store supports no presigned URLs, or clients cannot reach it."""


class Storage:
    """Bytes by key. Every write is atomic: an object is stored completely or not at all."""

    def __init__(
        self, store: ObjectStore, folder: Path | None = None, cloud: Cloud | None = None
    ) -> None:
        self._store = store
        self._folder = folder  # of a file:// store, whose files are written and listed directly
        self._cloud = cloud
        self.damaged: set[str] = set()  # keys that `worker.damage` has reported

    @classmethod
    def open(cls, url: str, public_url: str | None = None) -> "Storage":
        """The store at `file:///folder`, `memory://`, `s3://bucket/prefix`, `gs://` or `az://`.

        The folder of a file:// URL is used literally, without percent-decoding. `public_url` is for
        presigned URLs: see `open_cloud`.

        Raises:
            StorageError: the URL has another form, or the store cannot be opened.
        """
        scheme, _, place = url.partition("://")
        if scheme == "file" and not place.startswith("/"):
            raise StorageError("a file:// URL names an absolute folder: file:///folder")
        with _translated("open the store"):
            if scheme == "memory":
                return cls(MemoryStore())
            if scheme == "file":
                folder_files.make_folder(Path(place))
                # Without automatic_cleanup, which removes folders that another thread writes to.
                return cls(LocalStore(place, mkdir=True), Path(place))
            if scheme in CLOUDS:
                cloud = open_cloud(url, public_url)
                return cls(cloud.store, cloud=cloud)
        raise StorageError("a storage URL starts with file://, memory://, s3://, gs:// or az://")

    def put(self, key: str, data: bytes | Path | BinaryIO, media_type: str | None = None) -> None:
        """Store an object, replacing an earlier one. A file is streamed, not held in memory.

        It is durable when this returns. Clouds send the media type as Content-Type when a presigned
        URL is read.
        """
        with _translated("write"):
            if self._folder is not None:
                folder_files.write(self._folder / _checked(key), data, create=False)
                return
            obstore.put(
                self._store,
                _checked(key),
                data,
                attributes=None if media_type is None else {"Content-Type": media_type},
                max_concurrency=PARTS_AT_ONCE,
            )

    def create(self, key: str, data: bytes) -> None:
        """Store an object that must not exist yet (compare-and-set): one of several writers wins.

        It is durable when this returns.

        Raises:
            ObjectExists: there already is an object with this key.
        """
        with _translated("create"):
            if self._folder is not None:
                folder_files.write(self._folder / _checked(key), data, create=True)
                return
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
        """The object piece by piece; a missing one raises here, not at the first piece.

        Raises:
            ObjectNotFound: there is none.
        """
        with _translated("read"):
            return _pieces(obstore.get(self._store, _checked(key)))

    def exists(self, key: str) -> bool:
        """Whether there is an object with this key."""
        try:
            self.size(key)
        except ObjectNotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """The object's length in bytes.

        Raises:
            ObjectNotFound: there is none.
        """
        with _translated("inspect"):
            return int(obstore.head(self._store, _checked(key))["size"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of every object below the folder `prefix`, by key, sorted.

        Objects whose names cannot be a key are not the service's own, and are left out.
        """
        with _translated("list"):
            if self._folder is not None:
                return dict(sorted(folder_files.sizes(self._folder, _checked(prefix))))
            pages = obstore.list(self._store, _checked(prefix))
            found = ((meta["path"], meta["size"]) for page in pages for meta in page)
            return dict(sorted((key, size) for key, size in found if KEY.fullmatch(key)))

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key below the folder `prefix`, sorted."""
        return iter(self.sizes(prefix))

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below the folder `prefix`, sorted."""
        with _translated("list"):
            if self._folder is not None:
                return sorted(folder_files.folders(self._folder, _checked(prefix)))
            found = obstore.list_with_delimiter(self._store, _checked(prefix))["common_prefixes"]
            return sorted(path.rsplit("/", 1)[-1] for path in found if KEY.fullmatch(path))

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error. It is gone for good when this returns."""
        try:
            with _translated("delete"):
                if self._folder is not None:
                    folder_files.delete([self._folder / _checked(key)])
                    return
                obstore.delete(self._store, _checked(key))
        except ObjectNotFound:
            pass

    def clear(self, prefix: str) -> None:
        """Remove every object below the folder `prefix`, all for good when this returns."""
        keys = self.keys(prefix)
        if self._folder is None:
            for key in keys:
                self.delete(key)
            return
        with _translated("delete"):
            folder_files.delete(self._folder / key for key in keys)

    def sign(self, method: Literal["GET", "PUT"], key: str, valid: timedelta) -> SignedRequest:
        """A presigned URL that reads (GET) or stores (PUT) this object for the time `valid`.

        Raises:
            CannotSign: the store is a folder or memory, or clients cannot reach it.
        """
        if self._cloud is None or self._cloud.signer is None:
            raise CannotSign("this object store has no addresses to sign")
        with _translated("sign"):
            return presign(self._cloud.signer, method, _checked(key), valid)

    def sweep_unfinished(self, age: timedelta) -> int:
        """Remove what writes have left that were killed longer ago; returns their number."""
        with _translated("sweep"):
            if self._folder is not None:
                return folder_files.sweep_unfinished(self._folder, age)
            multipart = self._cloud and self._cloud.multipart
            return multipart.abort_older(age) if multipart else 0


def _pieces(result: "obstore.GetResult") -> Iterator[bytes]:
    with _translated("read"):
        for piece in result.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Turn obstore's errors into ours, without their messages, which hold paths and addresses."""
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
    """Whether a write failed for lack of disk space or quota."""
    # By the operating system's message: obstore passes on the cause only as text.
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def _checked(key: str) -> str:
    if not KEY.fullmatch(key) or len(key) > MAX_KEY or {".", ".."} & set(key.split("/")):
        raise ValueError(f"not a storage key: {key!r}")
    return key
