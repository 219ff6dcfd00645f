"""A search's Optuna study in Redis, as all who take part see it.

Optuna's own Redis backend unpickles what it finds there, so this is ours: a list of JSON lines,
which Redis appends to in one order for everybody.
"""

import json
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from redis import Redis

READ_AT_ONCE = 1000  # lines
FORGOTTEN_AFTER_S = 30 * 86_400  # by Redis, of a search that nobody goes on with


class RedisJournal(BaseJournalBackend):
    """What Optuna writes down, in the list `key`."""

    def __init__(self, redis: Redis, key: str) -> None:
        self.redis = redis
        self.key = key

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The lines from a number on, oldest first."""
        while lines := self._slice(log_number_from, log_number_from + READ_AT_ONCE - 1):
            yield from map(json.loads, lines)
            log_number_from += len(lines)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, with nobody else's among them."""
        self.redis.rpush(self.key, *map(json.dumps, logs))
        self.redis.expire(self.key, FORGOTTEN_AFTER_S)

    def dump(self) -> bytes:
        """All lines, to be kept where Redis cannot lose them."""
        return "\n".join(self._slice(0, -1)).encode()

    def restore(self, dump: bytes) -> None:
        """Bring back what was kept, where Redis has lost it."""
        if dump and not self.redis.exists(self.key):
            self.redis.rpush(self.key, *dump.decode().split("\n"))

    def delete(self) -> None:
        """The search is over."""
        self.redis.delete(self.key)

    def _slice(self, first: int, last: int) -> list[str]:
        return [str(line) for line in self.redis.lrange(self.key, first, last)]
