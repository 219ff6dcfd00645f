"""A few of the cases of `make contract`."""

from tests.contract.__main__ import run


def test_answers_are_as_documented() -> None:
    report, cases, failed = run(examples=2, seed=3)
    assert not failed, report
    assert cases > 800
