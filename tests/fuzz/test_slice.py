"""A small seeded slice of `make fuzz`."""

import time
from pathlib import Path

import pytest

from tests.fuzz.archives import sound
from tests.fuzz.campaign import run, target
from tests.fuzz.refused import REFUSALS, send_refused, settings
from tests.fuzz.requests import KINDS, upload

INPUTS, REFUSED = 150, 60


def test_malformed_uploads_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with target(tmp_path) as aim:
        outcome = run(aim, 1, range(INPUTS))
        once_unanswered = run(aim, 0, range(6868, 6869))  # an assertion of Pillow's that failed
    assert once_unanswered.complaints == []
    assert outcome.complaints == []
    assert sum(outcome.answers.values()) == INPUTS
    assert {kind for kind, _ in outcome.answers} == set(KINDS)
    assert len(outcome.codes) >= 6


def test_no_body_is_read_of_an_upload_that_is_refused_by_its_head(tmp_path: Path) -> None:
    with target(tmp_path, settings(REFUSED)) as aim:
        result = send_refused(aim, 1, range(REFUSED))
    assert result.complaints == []
    assert set(REFUSALS) <= result.answers.keys()


def test_an_input_depends_on_its_seed_and_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = upload(3, 7), upload(4, 7)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    sound.cache_clear()
    assert upload(3, 7) == first
    assert first != other
