"""Cloud object stores, opened by URL, and the store that presigns URLs for clients.

A presigned URL names a host, and S3's signature covers it. Where clients reach the store by another
name than this service does, URLs are signed for that name.
"""

from datetime import timedelta

from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store, from_url

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


def open_store(url: str, **options: str) -> ObjectStore:
    """The store at an `s3://`, `gs://` or `az://` URL; raises obstore's errors."""
    store: ObjectStore = from_url(url, retry_config=RETRY, client_options=CLIENT, **options)  # type: ignore[call-overload] # one option set for three clouds
    return store


def open_signer(url: str, store: ObjectStore, public_url: str | None) -> CloudStore | None:
    """The store that signs URLs for clients; None where they cannot reach it.

    `public_url` is the address by which clients reach an S3 store, `none`, or None for that of the
    store itself.
    """
    if public_url == NOT_PUBLIC:
        return None
    signer = store if public_url is None else open_store(url, endpoint=public_url.rstrip("/"))
    assert isinstance(signer, CloudStore)
    return signer
