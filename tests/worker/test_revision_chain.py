"""Revision chains: of several writers of one number, one succeeds."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import BaseModel

from worker.revision_chain import RecordDamaged, RevisionChain
from worker.storage import ObjectExists, Storage


class Entry(BaseModel):
    """A revision type for these tests."""

    text: str


@pytest.fixture
def chain(storage: Storage) -> RevisionChain[Entry]:
    """An empty chain."""
    return RevisionChain(storage, "some/chain", Entry, "job", digits=4)


def test_revisions_are_read_as_they_were_appended(chain: RevisionChain[Entry]) -> None:
    assert (chain.newest(), chain.read(1), chain.revisions()) == (None, None, [])
    entries = [Entry(text=text) for text in ("a", "b", "c")]
    for number, entry in enumerate(entries, start=1):
        chain.append(number, entry)
    assert chain.revisions() == entries
    assert (chain.newest(), chain.read(2), chain.read(4)) == (entries[2], entries[1], None)
    assert list(chain.storage.keys("some")) == [f"some/chain/000{n}.json" for n in (1, 2, 3)]


def test_of_many_writers_of_one_number_one_succeeds(chain: RevisionChain[Entry]) -> None:
    def append(writer: int) -> bool:
        try:
            chain.append(1, Entry(text=str(writer)))
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(append, range(32)))
    assert sum(won) == 1
    assert chain.read(1) == Entry(text=str(won.index(True)))


def test_a_write_whose_answer_was_lost_may_be_repeated(chain: RevisionChain[Entry]) -> None:
    chain.append(1, Entry(text="mine"))
    chain.append(1, Entry(text="mine"))
    with pytest.raises(ObjectExists):
        chain.append(1, Entry(text="another's"))


def test_a_damaged_revision_is_told_from_a_missing_one(chain: RevisionChain[Entry]) -> None:
    chain.append(1, Entry(text="a"))
    chain.storage.put("some/chain/0002.json", b"")
    with pytest.raises(RecordDamaged):
        chain.read(2)
    with pytest.raises(RecordDamaged):
        chain.newest()
    assert chain.read(3) is None


def test_a_deleted_chain_is_empty(chain: RevisionChain[Entry]) -> None:
    chain.append(1, Entry(text="a"))
    chain.delete()
    assert chain.revisions() == []


def test_the_first_revision_is_gone_for_good_before_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = RevisionChain(Storage.open(f"file://{tmp_path}"), "chain", Entry, "alias")
    for number in (1, 2, 3):
        chain.append(number, Entry(text="a"))
    left = []
    monkeypatch.setattr(os, "fsync", lambda _: left.append(sorted(os.listdir(tmp_path / "chain"))))
    chain.delete()
    assert left == [["000002.json", "000003.json"], []]
