"""Generated images behind links, for clients that want URLs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated
from urllib.parse import urljoin

from fastapi import Depends, Request

from app.dependencies import LinksDep, SettingsDep
from app.generation import Generated

WRITERS = 8  # a store in the cloud takes a while for each file

Publish = Callable[[Generated, str], list[str]]


async def publish(request: Request, settings: SettingsDep, links: LinksDep) -> Publish:
    """Stores images under an id of theirs; an absolute URL for each."""
    base = settings.public_url or str(request.base_url)

    def store(generated: Generated, group: str) -> list[str]:
        suffix = generated.rendering.image_format

        def link(index: int) -> str:
            content = generated.files[index].content
            return urljoin(base, links.put(group, f"{index:02d}.{suffix}", content))

        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(link, range(len(generated.files))))

    return store


PublishDep = Annotated[Publish, Depends(publish)]
