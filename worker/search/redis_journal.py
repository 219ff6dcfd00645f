"""Optuna journal backend in Redis, by which the processes of a search share one study.

Optuna's own Redis backend unpickles data from Redis, which allows code execution. This one is a
list of JSON lines, which all processes see in the same order.
"""

import json
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from redis import Redis

READ_AT_ONCE = 1000  # lines
FORGOTTEN_AFTER_S = 30 * 86_400  # expiry of the list after its last append


class RedisJournal(BaseJournalBackend):
    """Optuna's log entries in the Redis list `key`."""

    def __init__(self, redis: Redis, key: str) -> None:
        self.redis = redis
        self.key = key

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The entries from this number on, oldest first."""
        while lines := self._slice(log_number_from, log_number_from + READ_AT_ONCE - 1):
            yield from map(json.loads, lines)
            log_number_from += len(lines)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries atomically, so that no other process's entries are between them."""
        self.redis.rpush(self.key, *map(json.dumps, logs))
        self.redis.expire(self.key, FORGOTTEN_AFTER_S)

    def dump(self) -> bytes:
        """All lines, for a copy in object storage."""
        return "\n".join(self._slice(0, -1)).encode()

    def restore(self, dump: bytes) -> None:
        """Write the lines of a copy back if the list is missing in Redis."""
        if dump and not self.redis.exists(self.key):
            self.redis.rpush(self.key, *dump.decode().split("\n"))

    def delete(self) -> None:
        """Delete the list."""
        self.redis.delete(self.key)

    def _slice(self, first: int, last: int) -> list[str]:
        return [str(line) for line in self.redis.lrange(self.key, first, last)]
