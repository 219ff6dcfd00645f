"""Content negotiation."""

import pytest

from app.generation.negotiation import preferred

OFFERED = ("application/json", "image/png", "application/zip")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png, application/json", "application/json"),
        ("image/png, application/json;q=0.5", "image/png"),
        ("application/zip, */*;q=0.8", "application/zip"),
        ("image/*", "image/png"),
        ("IMAGE/PNG ; Q=0.3", "image/png"),
        ("application/*;q=0.2, application/zip", "application/zip"),
        ("*/*, application/json;q=0", "image/png"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png;q=much", None),
        ("nonsense", None),
        (",,;,", None),
    ],
)
def test_the_best_liked_is_chosen(accept: str, kind: str | None) -> None:
    assert preferred(accept, OFFERED) == kind
