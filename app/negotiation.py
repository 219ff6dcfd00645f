"""Which representation a client wants, by its `Accept` header (RFC 9110, section 12.5.1)."""

from collections.abc import Iterable
from functools import lru_cache

MOST_REMEMBERED = 200  # headers; most clients send the same one each time


@lru_cache(MOST_REMEMBERED)
def preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    """The media type of those offered that the client likes best; None where it takes none.

    Of what it likes equally, the first; without the header, the first of all.
    """
    ranges = list(_ranges(accept or "*/*"))
    qualities = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(qualities.values(), default=0.0)
    if best <= 0:
        return None
    return next(media_type for media_type in offered if qualities[media_type] == best)


def _ranges(accept: str) -> Iterable[tuple[str, float]]:
    """Media ranges and how much each is liked; what is not well-formed is not liked."""
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for name, _, value in (parameter.partition("=") for parameter in parameters):
            if name == "q":
                quality = float(value) if value.replace(".", "", 1).isdecimal() else 0.0
        yield media_range, quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """By the most specific range that holds the media type."""
    liked = dict(ranges)
    whole = media_type.split("/")[0] + "/*"
    for media_range in (media_type, whole, "*/*"):
        if media_range in liked:
            return liked[media_range]
    return 0.0
