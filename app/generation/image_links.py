"""Signed URLs that expire, for generated images (`response_format: url`)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

from app.generation.generate_images import Generated
from worker.registry.image_links import ImageLinks

WRITERS = 8  # threads: cloud storage has a high latency for each file

PublishImages = Callable[[Generated, str], list[str]]  # images and their group id to URLs


def publish_images(links: ImageLinks, base_url: str, generated: Generated, group: str) -> list[str]:
    """Store images under a group id; returns an absolute URL for each, in their order."""
    suffix = generated.rendering.image_format

    def link(index: int) -> str:
        content = generated.files[index].content
        return urljoin(base_url, links.put(group, f"{index:02d}.{suffix}", content))

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(link, range(len(generated.files))))
