"""Progress generators."""

from models.progress import Steps, run, scaled


def counting() -> Steps[str]:
    yield 0.0
    yield 1.0
    return "done"


def test_the_result_is_what_the_steps_return() -> None:
    assert run(counting()) == "done"


def test_a_part_continues_where_the_last_one_ended() -> None:
    steps = scaled(counting(), 0.5)
    assert [next(steps), next(steps)] == [0.5, 1.0]
    assert run(scaled(counting(), 0.5)) == "done"
