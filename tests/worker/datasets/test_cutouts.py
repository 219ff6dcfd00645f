"""The cut-out store: one record wins, and what is damaged is said to be."""

import io
from collections.abc import Callable

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


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("1.json", lambda store, _: store.find()),
        ("attributes.jsonl", lambda store, record: store.attributes(record)),
    ],
)
def test_damage_is_told(
    storage: Storage, name: str, read: Callable[[CutoutStore, object], object]
) -> None:
    store = CutoutStore(storage, DATASET)
    record = store.add(io.BytesIO(b""), [PHOTO], b"")
    (key,) = (key for key in storage.keys(f"datasets/{DATASET}") if key.endswith(name))
    storage.put(key, b"{")
    with pytest.raises(RecordDamaged):
        read(store, record)
