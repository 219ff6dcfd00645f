"""Signed links to generated images: valid for a limited time, without an API key.

Clouds presign their own URLs. For other stores the service signs with HMAC-SHA256 over storage key
and expiry time, with a secret in the store that all API processes share.
"""

import hashlib
import hmac
import secrets
import time
from contextlib import suppress
from datetime import timedelta
from functools import cached_property

from worker import damage
from worker.ledger.artifacts import media_type
from worker.schemas.jobs import is_id, made_at, now
from worker.storage import CannotSign, ObjectExists, Storage, StorageError

FOLDER = "generated"
SECRET = "secrets/links"
SECRET_BYTES = 32
MOST_SECRETS = 9


class LinkRefused(PermissionError):
    """The link's signature is wrong, or it has expired."""


class ImageLinks:
    """Stores generated images in one object store, and signs and checks links to them."""

    def __init__(self, storage: Storage, lifetime_s: int) -> None:
        self.storage = storage
        self.lifetime_s = lifetime_s

    def put(self, group: str, name: str, data: bytes) -> str:
        """Store an image; returns its link, a cloud's URL or a path and query of this service."""
        key = _key(group, name)
        self.storage.put(key, data, media_type(name))
        with suppress(CannotSign):
            return self.storage.sign("GET", key, timedelta(seconds=self.lifetime_s)).url
        expires = int(time.time()) + self.lifetime_s
        return f"/images/{group}/{name}?expires={expires}&signature={self._sign(key, expires)}"

    def read(self, group: str, name: str, expires: int, signature: str) -> bytes:
        """The image of a link that this service has signed.

        Raises:
            LinkRefused: the signature is wrong, or the link has expired.
            ObjectNotFound: the image was deleted.
        """
        key = _key(group, name)
        expected = self._sign(key, expires)
        # As bytes: compare_digest raises TypeError for a str with non-ASCII characters.
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise LinkRefused("this link was not made here")
        if expires < time.time():
            raise LinkRefused("this link has expired; generate the image again, by its seed")
        return self.storage.read(key)

    def sweep(self) -> None:
        """Delete images whose links have all expired."""
        lifetime = timedelta(seconds=self.lifetime_s)
        for group in self.storage.folders(FOLDER):
            if is_id("gen", group) and made_at(group) + lifetime < now():
                self.storage.clear(f"{FOLDER}/{group}")

    def _sign(self, key: str, expires: int) -> str:
        return hmac.new(self._secret, f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _secret(self) -> bytes:
        """The secret of this store; the first process that needs it creates it.

        A damaged one is never used: an empty secret would let anybody sign. The next key is tried,
        as all processes do, so that they all agree.
        """
        for key in (SECRET, *(f"{SECRET}-{number}" for number in range(2, MOST_SECRETS + 1))):
            with suppress(ObjectExists):
                self.storage.create(key, secrets.token_bytes(SECRET_BYTES))
            secret = self.storage.read(key)
            if len(secret) == SECRET_BYTES:
                return secret
            damage.report(self.storage, "secret", key)
        raise StorageError("the store damages the secret of image links")


def _key(group: str, name: str) -> str:
    return f"{FOLDER}/{group}/{name}"
