"""Signed URLs that expire, for generated images (`response_format: url`)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

from app.generation.generate_images import Generated
from worker.registry.image_links import ImageLinks

WRITERS = 8  # threads: cloud storage has a high latency for each file

PublishImages = Callable[[Generated], list[str]]  # see `publish_images`


def publish_images(links: ImageLinks, base_url: str, generated: Generated) -> list[str]:
    """Store images under their answer's id; returns an absolute URL for each, in their order."""
    suffix = generated.rendering.image_format

    def link(index: int) -> str:
        content = generated.files[index].content
        return urljoin(base_url, links.put(generated.id, f"{index:02d}.{suffix}", content))

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(link, range(len(generated.files))))
