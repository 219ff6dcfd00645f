"""The table and the Pareto plot of a search."""

import json
from io import BytesIO

from PIL import Image

from models.search.search_space import Point
from models.search.trials import WORST, Goal, Trial
from worker.search.pareto import plot, table

DEFAULT: Point = {"lr": 1}


def trial(candidate: int, kid: float, latency_ms: float, rung: int = 0, images: int = 9) -> Trial:
    return Trial(
        candidate=candidate,
        rung=rung,
        point=DEFAULT if candidate == 0 else {"lr": candidate + 1},
        images=images,
        seconds=1.0,
        kid=kid,
        latency_ms=latency_ms,
        parameters=100 * candidate + 100,
    )


TRIALS = [
    trial(0, 9.0, 3.0),
    trial(0, 4.0, 3.0, rung=1, images=27),
    trial(1, 12.0, 1.0),
    trial(2, 20.0, 5.0),
    trial(3, WORST, 9.0, images=0),
]


def test_the_table_marks_the_front_and_the_limits() -> None:
    content = json.loads(table(TRIALS, TRIALS[:1], Goal(latency_ms=4.0)))
    assert content["limits"] == {"latency_ms": 4.0}
    marks = [(row["pareto"], row["within_limits"]) for row in content["trials"]]
    # The default counts at the highest rung that it has reached.
    assert marks == [(False, True), (True, True), (True, True), (False, False), (False, False)]
    # The scales differ, and so do the names.
    assert [row["kid_search"] for row in content["trials"]] == [9.0, 4.0, 12.0, 20.0, WORST]
    assert [row["kid_report"] for row in content["finals"]] == [9.0]
    assert not any("kid" in row for row in content["trials"] + content["finals"])


def test_the_plot_shows_what_was_trained() -> None:
    drawn = Image.open(BytesIO(plot(TRIALS, DEFAULT, Goal(latency_ms=4.0))))
    without_limit = Image.open(BytesIO(plot(TRIALS, DEFAULT, Goal())))
    nothing = Image.open(BytesIO(plot([], DEFAULT, Goal())))
    assert drawn.size == without_limit.size == nothing.size == (1100, 500)
    assert len({image.tobytes() for image in (drawn, without_limit, nothing)}) == 3
