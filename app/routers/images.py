"""`GET /images`: generated images by signed links. The signature replaces an API key."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.dependencies import ServicesDep
from app.errors import can_answer

router = APIRouter(prefix="/images", tags=["generate"])


@router.get("/{group}/{name}", response_class=Response, responses=can_answer(403))
def read_image(
    group: Annotated[str, Path(pattern=r"^gen_[0-9a-z]{20}$")],
    name: Annotated[str, Path(pattern=r"^[0-9]{2}\.(png|jpeg|webp|avif)$", examples=["00.png"])],
    expires: Annotated[int, Query(ge=0, lt=2**40, description="Unix time, in seconds.")],
    signature: Annotated[str, Query(max_length=64)],
    services: ServicesDep,
) -> Response:
    """An image that `POST /generate` has linked to, until the link expires."""
    data = services.image_links.read(group, name, expires, signature)
    headers = {"Cache-Control": "private, immutable"}
    return Response(data, media_type=f"image/{name.rsplit('.', 1)[1]}", headers=headers)
