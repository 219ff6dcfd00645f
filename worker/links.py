"""Links to generated images that work for a while, without a key.

Clouds sign their own. For other stores the service signs: HMAC-SHA256 over the object's key and the
moment it ends, with a secret that the store keeps, so that every API process knows it.
"""

import hashlib
import hmac
import secrets
import time
from contextlib import suppress
from datetime import timedelta
from functools import cached_property

from worker.artifacts import media_type
from worker.jobs import made_at, now
from worker.storage import CannotSign, ObjectExists, Storage

FOLDER = "generated"
SECRET = "secrets/links"
SECRET_BYTES = 32


class LinkRefused(PermissionError):
    """A link that was not made here, or that works no longer."""


class Links:
    """The images that links lead to, in one object store."""

    def __init__(self, storage: Storage, lifetime_s: int) -> None:
        self.storage = storage
        self.lifetime_s = lifetime_s

    def put(self, group: str, name: str, data: bytes) -> str:
        """Store an image and link to it: the URL, or its path and query at this service."""
        key = _key(group, name)
        self.storage.put(key, data, media_type(name))
        with suppress(CannotSign):
            return self.storage.sign("GET", key, timedelta(seconds=self.lifetime_s)).url
        expires = int(time.time()) + self.lifetime_s
        return f"/images/{group}/{name}?expires={expires}&signature={self._sign(key, expires)}"

    def read(self, group: str, name: str, expires: int, signature: str) -> bytes:
        """The image that a link of ours leads to.

        Raises:
            LinkRefused: the link is not ours, or has expired.
            ObjectNotFound: the image is gone.
        """
        key = _key(group, name)
        expected = self._sign(key, expires)
        # As bytes: a signature with characters beyond ASCII is wrong, not an error.
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise LinkRefused("this link was not made here")
        if expires < time.time():
            raise LinkRefused("this link has expired; generate the image again, by its seed")
        return self.storage.read(key)

    def sweep(self) -> None:
        """Delete images whose links have all expired."""
        for group in self.storage.folders(FOLDER):
            if made_at(group) + timedelta(seconds=self.lifetime_s) < now():
                self.storage.clear(f"{FOLDER}/{group}")

    def _sign(self, key: str, expires: int) -> str:
        return hmac.new(self._secret, f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _secret(self) -> bytes:
        """Made by whoever needs it first."""
        with suppress(ObjectExists):
            self.storage.create(SECRET, secrets.token_bytes(SECRET_BYTES))
        return self.storage.read(SECRET)


def _key(group: str, name: str) -> str:
    return f"{FOLDER}/{group}/{name}"
