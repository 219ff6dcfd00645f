"""Uploads whose client leaves: nothing is stored, and another request can go on."""

import pytest
from redis import Redis

from models.data.archive import ArchiveLimits
from tests.models.pictures import shop, zipped
from tests.processes import imports
from worker.datasets.datasets import DatasetStore, UploadOptions
from worker.datasets.direct_uploads import key_of
from worker.datasets.import_slot import Bounds, ImportAbandoned
from worker.datasets.importing import Importer
from worker.datasets.uploads import Uploads
from worker.ledger.leases import Leases
from worker.schemas.jobs import new_id
from worker.storage import Storage

LIMITS = ArchiveLimits()
MAX_BYTES = 2**30


def test_an_abandoned_direct_upload_can_be_completed_later(storage: Storage, redis: Redis) -> None:
    upload = new_id("up")
    photos = zipped(shop(a=600)).getvalue()
    storage.put(key_of(upload), photos)
    importer = Importer(Bounds())
    uploads = Uploads(DatasetStore(storage, importer.run), Leases(redis, 10))
    try:
        with pytest.raises(ImportAbandoned):
            uploads.complete(upload, UploadOptions("photos"), LIMITS, MAX_BYTES, lambda: True)
        assert (list(storage.keys("datasets")), imports()) == ([], set())
        assert uploads.complete(upload, UploadOptions("photos"), LIMITS, MAX_BYTES).images == 600
    finally:
        importer.close()
    assert not storage.exists(key_of(upload))
