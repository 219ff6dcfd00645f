"""The Idempotency-Key header: a POST that is sent twice makes one thing."""

import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Request

from app.dependencies import StorageDep
from worker.idempotency import reserve

IdFor = Callable[[str, Callable[[], bytes]], str | None]


async def once(
    request: Request,
    storage: StorageDep,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Any text of your own, for this request alone. Sent again with it within a"
            " day, the request gets its first answer and makes nothing new.",
        ),
    ] = None,
) -> IdFor:
    """Given a prefix and what was asked for, the id to make it under; None for a fresh one."""
    client = hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()
    scope = f"{client} {request.url.path}"

    def id_for(prefix: str, asked: Callable[[], bytes]) -> str | None:
        return None if key is None else reserve(storage, prefix, scope, key, asked())

    return id_for


OnceDep = Annotated[IdFor, Depends(once)]
