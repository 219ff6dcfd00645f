"""Classifiers of a data set in object storage."""

from worker.datasets.dataset_classifiers import DatasetClassifiers
from worker.storage import Storage


def test_there_is_one_for_each_resolution(storage: Storage) -> None:
    stored = DatasetClassifiers(storage, "ds_00000000000000000001")
    assert stored.largest() is None
    assert stored.read(64) is None
    for resolution in (128, 32):
        stored.store(resolution, b"%d px" % resolution)
    storage.put("datasets/ds_00000000000000000001/classifiers/999.DS_Store", b"stray")
    storage.put("datasets/ds_00000000000000000002/classifiers/256.safetensors", b"another's")
    assert stored.largest() == 128
    assert stored.read(32) == b"32 px"
    assert stored.read(64) is None
