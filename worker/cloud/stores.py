"""Cloud object stores, opened by URL, and the store that presigns URLs for clients.

A presigned URL names a host, and S3's signature covers it. Where clients reach the store by another
name than this service does, URLs are signed for that name.
"""

import os
from datetime import timedelta
from typing import Literal, NamedTuple

import obstore
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store, from_url

from worker.cloud.multipart import MultipartUploads

CLOUDS = ("s3", "gs", "az")
NOT_PUBLIC = "none"  # in place of a public URL: clients cannot reach the store
RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
# These options replace what obstore reads from AWS_ALLOW_HTTP. Plain HTTP is only used where the
# operator configures an http:// endpoint, such as a store in the same private network.
CLIENT = {
    "connect_timeout": "5s",
    "read_timeout": "10s",  # between two reads: ends a hung transfer, but not a long one
    "timeout": "1h",
    "allow_http": True,
}

CloudStore = S3Store | GCSStore | AzureStore


class SignedRequest(NamedTuple):
    """A presigned URL that reads or stores one object, and the headers that the request needs."""

    url: str
    headers: dict[str, str]


class Cloud(NamedTuple):
    """One cloud store, and what only clouds have."""

    store: ObjectStore
    signer: CloudStore | None  # presigns URLs; None where clients cannot reach the store
    multipart: MultipartUploads | None  # None where they cannot be listed


def open_cloud(url: str, public_url: str | None) -> Cloud:
    """The store at an `s3://`, `gs://` or `az://` URL; raises obstore's errors.

    `public_url` is the address by which clients reach an S3 store, `none`, or None for that of the
    store itself.
    """
    store = signer = _open(url)
    if public_url not in (None, NOT_PUBLIC):
        signer = _open(url, endpoint=public_url.rstrip("/"))
    multipart = MultipartUploads.open(url, os.environ)
    return Cloud(store, None if public_url == NOT_PUBLIC else signer, multipart)


def _open(url: str, **options: str) -> CloudStore:
    store = from_url(url, retry_config=RETRY, client_options=CLIENT, **options)  # type: ignore[call-overload] # one option set for three clouds
    assert isinstance(store, CloudStore)
    return store


def presign(
    signer: CloudStore, method: Literal["GET", "PUT"], key: str, valid: timedelta
) -> SignedRequest:
    """A request that reads (GET) or stores (PUT) an object for the time `valid`."""
    azure = isinstance(signer, AzureStore) and method == "PUT"
    headers = {"x-ms-blob-type": "BlockBlob"} if azure else {}
    return SignedRequest(obstore.sign(signer, method, key, valid), headers)
