"""Counts the images that a job makes, for `GET /metrics`; Redis hears of them once a second."""

import logging
import time
from types import TracebackType

from redis import Redis, RedisError

from worker.ledger.job_counters import count_images

logger = logging.getLogger(__name__)

COUNT_EVERY_S = 1.0
ASK_AGAIN_S = 5.0  # pause after a failure: a timeout each second would slow the job down


class ImageCounter:
    """Counter of one model's images; when its block ends, what is not counted yet is."""

    def __init__(self, redis: Redis, model: str) -> None:
        self.redis = redis
        self.model = model
        self._uncounted = 0
        self._due_at = 0.0

    def __enter__(self) -> "ImageCounter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._count()

    def add(self, images: int) -> None:
        """Count this many images, now or with later ones."""
        self._uncounted += images
        if time.monotonic() >= self._due_at:
            self._count()

    def _count(self) -> None:
        if self._uncounted == 0:
            return
        try:
            count_images(self.redis, self.model, self._uncounted)
        except RedisError:
            logger.warning("Redis is away: images are counted later")
            self._due_at = time.monotonic() + ASK_AGAIN_S
        else:
            self._uncounted = 0
            self._due_at = time.monotonic() + COUNT_EVERY_S
