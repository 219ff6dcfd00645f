"""A search's trainings in storage, as a mapping."""

import pytest

from worker.search.shared_states import SharedStates
from worker.storage import Storage


def test_what_one_process_keeps_another_finds(storage: Storage) -> None:
    ours, theirs, another = (SharedStates(storage, job) for job in ("a", "a", "b"))
    ours["1"] = b"state"
    ours["final-1-0"] = b"end"
    assert theirs["1"] == b"state"
    assert dict(theirs) == {"1": b"state", "final-1-0": b"end"}
    assert (len(theirs), len(another)) == (2, 0)
    with pytest.raises(KeyError):
        another["1"]
    assert another.get("1", b"nothing") == b"nothing"
    theirs.clear()
    assert dict(ours) == {}
