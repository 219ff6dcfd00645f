"""Content negotiation by the `Accept` header (RFC 9110, section 12.5.1)."""

from collections.abc import Iterable
from functools import lru_cache

MOST_REMEMBERED = 200  # headers in the cache; most clients always send the same one


@lru_cache(MOST_REMEMBERED)
def preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    """The offered media type that the client prefers; None if it accepts none of them.

    Among equally preferred types, or without the header, the first one wins.
    """
    ranges = list(_ranges(accept or "*/*"))
    qualities = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(qualities.values(), default=0.0)
    if best <= 0:
        return None
    return next(media_type for media_type in offered if qualities[media_type] == best)


def _ranges(accept: str) -> Iterable[tuple[str, float]]:
    """Media ranges with their quality values; a malformed quality counts as 0."""
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for name, _, value in (parameter.partition("=") for parameter in parameters):
            if name == "q":
                quality = float(value) if value.replace(".", "", 1).isdecimal() else 0.0
        yield media_range, quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Quality of the most specific range that includes the media type."""
    liked = dict(ranges)
    whole = media_type.split("/")[0] + "/*"
    for media_range in (media_type, whole, "*/*"):
        if media_range in liked:
            return liked[media_range]
    return 0.0
