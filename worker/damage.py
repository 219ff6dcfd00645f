"""Damaged objects: stored records that cannot be read, logged once each and counted by kind."""

import logging
from typing import Literal

from prometheus_client import Counter

from worker.storage import Storage

logger = logging.getLogger(__name__)

Kind = Literal[
    "job",
    "dataset",
    "card",
    "alias",
    "synonyms",
    "events",
    "webhook",
    "idempotency",
    "secret",
]

# In no registry of its own: each API process adds it to its metrics.
damaged_objects = Counter(
    "vitrine_damaged_objects",
    "Stored objects that cannot be read, each counted once by each process that finds it.",
    ["kind"],
    registry=None,
)


def report(storage: Storage, kind: Kind, key: str) -> None:
    """Log and count a damaged object, the first time that this process finds it."""
    if key not in storage.damaged:
        storage.damaged.add(key)
        damaged_objects.labels(kind).inc()
        logger.error("the %s record %s is damaged and is passed over", kind, key)
