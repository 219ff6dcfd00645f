"""Leftovers of killed uploads and imports: swept once they are too old to be of a live one.

Temporary files need no sweep: they have no name, so the kernel frees them with their process.
"""

import logging
from datetime import timedelta
from typing import Literal

from prometheus_client import Counter

from worker.datasets.direct_uploads import forget_abandoned, is_being_imported
from worker.schemas.dataset_import import upload_id_of
from worker.schemas.jobs import is_id, made_at, now
from worker.storage import Storage

logger = logging.getLogger(__name__)

FOLDER = "datasets"
UNFINISHED = timedelta(days=1)  # since a write last got anything
# Since the id was made: an Idempotency-Key gives it to a repeated request for up to two days.
UNRECORDED = timedelta(days=3)

Kind = Literal["write", "upload", "dataset"]

# In no registry of its own: each API process adds it to its metrics.
swept_leftovers = Counter(
    "vitrine_swept_leftovers",
    "What killed processes and clients have left in the object store, removed.",
    ["kind"],
    registry=None,
)


def sweep_leftovers(storage: Storage) -> None:
    """Remove uploads that nobody waits for, data sets without a record, and unfinished writes."""
    _note("upload", forget_abandoned(storage))
    _note("dataset", _forget_unrecorded(storage))
    _note("write", storage.sweep_unfinished(UNFINISHED))  # last: some stores refuse it


def _forget_unrecorded(storage: Storage) -> int:
    """Delete data sets whose import, or whose deletion, was killed midway."""
    keys = list(storage.keys(FOLDER))
    recorded = {key.split("/")[1] for key in keys if key.endswith("/dataset.json")}
    unrecorded = {key.split("/")[1] for key in keys} - recorded
    old = [name for name in unrecorded if is_id("ds", name) and now() - made_at(name) > UNRECORDED]
    # An import job that waited for days may be writing one at this moment.
    killed = [name for name in old if not is_being_imported(storage, upload_id_of(name))]
    for name in killed:
        storage.clear(f"{FOLDER}/{name}")
    return len(killed)


def _note(kind: Kind, number: int) -> None:
    if number:
        swept_leftovers.labels(kind).inc(number)
        logger.warning("removed leftovers of kind %s: %d", kind, number)
