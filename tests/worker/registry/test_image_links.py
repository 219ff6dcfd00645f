"""Image links that a cloud presigns; the service's own links are tested over HTTP."""

import hashlib
import hmac
from datetime import timedelta

import httpx
import pytest

from tests.aws_signature import presigned_signature
from worker.registry.image_links import SECRET, ImageLinks, LinkRefused
from worker.schemas.jobs import new_id, now
from worker.storage import Storage


@pytest.fixture
def links(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ImageLinks:
    """In a real S3 server process."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return ImageLinks(Storage.open("s3://vitrine/links"), 600)


def test_a_cloud_serves_its_own_links(links: ImageLinks) -> None:
    url = links.put(new_id("gen"), "00.webp", b"an image")
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"an image")
    assert answer.headers["content-type"] == "image/webp"
    assert "X-Amz-Expires=600" in url


def test_old_images_are_swept_away_and_no_others(
    links: ImageLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    links.sweep()
    links.put(new_id("gen"), "00.png", b"old")
    later = now() + timedelta(seconds=601)
    monkeypatch.setattr("worker.registry.image_links.now", lambda: later)
    monkeypatch.setattr("worker.schemas.jobs.time.time_ns", lambda: int(later.timestamp() * 1e9))
    links.put(new_id("gen"), "00.png", b"new")
    links.sweep()
    (kept,) = links.storage.keys("generated")
    assert links.storage.read(kept) == b"new"


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_damaged_secret_signs_nothing_and_all_processes_agree_on_the_next(
    storage: Storage, left: bytes
) -> None:
    storage.put(SECRET, left)
    first, second = ImageLinks(storage, 600), ImageLinks(storage, 600)
    group = new_id("gen")
    link = httpx.URL(first.put(group, "00.png", b"an image"))
    expires, signature = int(link.params["expires"]), link.params["signature"]
    assert second.read(group, "00.png", expires, signature) == b"an image"
    signed = f"generated/{group}/00.png\n{expires}".encode()
    forged = hmac.new(left, signed, hashlib.sha256).hexdigest()
    with pytest.raises(LinkRefused):
        second.read(group, "00.png", expires, forged)


def test_foreign_folders_are_not_swept(storage: Storage) -> None:
    for key in ("generated/foo/x.png", "generated/.cache/x.png"):
        storage.put(key, b"foreign")
    ImageLinks(storage, 0).sweep()
    assert len(list(storage.keys("generated"))) == 2


def test_a_link_leads_to_where_clients_reach_the_store(
    s3_environment: dict[str, str], links: ImageLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = s3_environment["AWS_ENDPOINT"].rpartition(":")[2]
    storage = Storage.open("s3://vitrine/links", f"http://localhost:{port}/")  # inside: 127.0.0.1
    url = ImageLinks(storage, 600).put(new_id("gen"), "00.png", b"an image")
    assert url.startswith(f"http://localhost:{port}/vitrine/links/generated/")
    assert httpx.get(url).content == b"an image"
    # S3 checks the signature, which covers the host; moto does not.
    signature = httpx.URL(url).params["X-Amz-Signature"]
    assert signature == presigned_signature("GET", url, monkeypatch)
    inner = url.replace("localhost", "127.0.0.1")
    assert signature != presigned_signature("GET", inner, monkeypatch)
    assert links.storage.sizes("generated")  # the objects themselves take the inner way


def test_links_lead_to_the_service_where_clients_cannot_reach_the_store(links: ImageLinks) -> None:
    assert links.storage.sign("GET", "generated/x", timedelta(seconds=60)).url
    hidden = ImageLinks(Storage.open("s3://vitrine/links", "none"), 600)
    group = new_id("gen")
    link = httpx.URL(hidden.put(group, "00.png", b"an image"))
    assert link.path == f"/images/{group}/00.png"
    expires, signature = int(link.params["expires"]), link.params["signature"]
    assert hidden.read(group, "00.png", expires, signature) == b"an image"
