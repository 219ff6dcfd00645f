"""A few of the cases of `make contract`."""

import pytest

from tests.contract.__main__ import STATES, run


@pytest.mark.parametrize("name", STATES)
def test_answers_are_as_documented(name: str) -> None:
    found = run(STATES[name], examples=2 if name == "sound" else 1, seed=3)
    assert not found.failed, found.report
    assert found.cases > 500
    assert found.statuses[STATES[name].shows_as] > 0
