"""Image links that a cloud presigns; the service's own links are tested over HTTP."""

from datetime import timedelta

import httpx
import pytest

from worker.registry.image_links import ImageLinks
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
