"""The cut-out store: one record wins, and what is damaged is said to be."""

import io

import pytest

from models.cutouts.attributes import PhotoAttributes
from worker.datasets.cutouts import CutoutStore, NotPrepared
from worker.revision_chain import RecordDamaged
from worker.storage import Storage

DATASET = "ds_00000000000000000001"
PHOTO = PhotoAttributes(
    file="000/000000.png",
    category="hat",
    color="red",
    lab=(40.0, 60.5, 30.0),
    fill=0.7,
    area=0.4,
    contact=0.0,
    entropy=0.01,
    doubts=("the product's outline is unclear",),
)


def test_the_first_of_two_that_are_made_at_once_is_kept(storage: Storage) -> None:
    store = CutoutStore(storage, DATASET)
    assert store.find() is None
    first = store.add(io.BytesIO(b"first"), [PHOTO], b"sheet")
    assert store.add(io.BytesIO(b"second"), [], b"other") == first == store.fetch()
    with store.open_masks(first) as masks:
        assert masks.read() == b"first"
    assert store.attributes(first) == [PHOTO]
    assert store.sheet(first) == b"sheet"
    assert first.summary["first_doubtful"] == [
        {"file": PHOTO.file, "category": "hat", "doubts": list(PHOTO.doubts)}
    ]
    assert first.summary["colors"] == {"hat": {"red": 1}}
    assert len(storage.folders(f"datasets/{DATASET}/cutouts")) == 1


def test_nothing_is_there_before_the_last_object(storage: Storage) -> None:
    store = CutoutStore(storage, DATASET)
    record = store.add(io.BytesIO(b""), [PHOTO], b"")
    (key,) = (key for key in storage.keys(f"datasets/{DATASET}") if key.endswith("1.json"))
    storage.delete(key)  # as if the process had died before
    assert storage.exists(f"{record.folder}/masks.zip")
    with pytest.raises(NotPrepared, match="POST /jobs/prepare"):
        store.fetch()


def test_damaged_attributes_are_told(storage: Storage) -> None:
    store = CutoutStore(storage, DATASET)
    record = store.add(io.BytesIO(b""), [PHOTO], b"")
    storage.put(f"{record.folder}/attributes.jsonl", b"{")
    with pytest.raises(RecordDamaged):
        store.attributes(record)


@pytest.mark.parametrize("damage", [b"", b"{", b"{}"])
def test_cut_outs_whose_record_is_damaged_are_made_again(storage: Storage, damage: bytes) -> None:
    store = CutoutStore(storage, DATASET)
    store.add(io.BytesIO(b"first"), [PHOTO], b"sheet")
    (key,) = (key for key in storage.keys(f"datasets/{DATASET}") if key.endswith("1.json"))
    storage.put(key, damage)
    assert store.find() is None
    assert storage.damaged == {key}
    again = store.add(io.BytesIO(b"again"), [PHOTO], b"sheet")
    with store.open_masks(store.fetch()) as masks:
        assert masks.read() == b"again"
    assert store.fetch() == again
