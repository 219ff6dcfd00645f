"""Checkpoints: the newest undamaged one is found."""

from worker.ledger.checkpoints import KEPT, Checkpoints
from worker.storage import Storage


def test_the_newest_is_found_and_old_ones_are_deleted(storage: Storage) -> None:
    checkpoints = Checkpoints(storage, "job_1")
    assert checkpoints.newest() is None
    for step in (9, 80, 700):
        checkpoints.save(1, step, f"step {step}".encode())
    assert checkpoints.newest() == b"step 700"
    assert len(list(storage.keys("jobs"))) == KEPT


def test_a_damaged_one_is_passed_over(storage: Storage) -> None:
    checkpoints = Checkpoints(storage, "job_1")
    checkpoints.save(1, 10, b"whole")
    checkpoints.save(1, 20, b"to be truncated")
    newest = max(storage.keys("jobs"))
    storage.put(newest, b"to be trunc")
    assert checkpoints.newest() == b"whole"


def test_what_a_stale_attempt_still_stores_is_not_taken(storage: Storage) -> None:
    checkpoints = Checkpoints(storage, "job_1")
    checkpoints.save(1, 10, b"of both")
    checkpoints.save(2, 20, b"of the owner")
    checkpoints.save(1, 30, b"stale")
    assert checkpoints.newest() == b"of the owner"


def test_foreign_files_take_no_checkpoint_s_place(storage: Storage) -> None:
    checkpoints = Checkpoints(storage, "job_1")
    for name in ("backup", "zz.tmp", ".DS_Store"):
        storage.put(f"{checkpoints.folder}/{name}", b"foreign")
    for step in (1, 2, 3):
        checkpoints.save(1, step, b"%d" % step)
    assert checkpoints.newest() == b"3"
    assert len(list(storage.keys(checkpoints.folder))) == KEPT + 3
