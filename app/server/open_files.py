"""Limit on open files (`ulimit -n`): raised at the start, and shared out to connections."""

import resource
from contextlib import suppress

MOST_FILES = 65_536  # that are asked for; some systems allow a billion
# For all but these connections: a file or a connection to the store and one to Redis for each of 40
# threads, event streams, surplus connections, models. A service at rest has about 20 files open.
RESERVED = 192


def raise_limit() -> None:
    """Raise this process's soft limit to the hard one; child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS refuses more than the kernel's own limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """How many connections may be open beside other files; at least a quarter of the limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if soft == resource.RLIM_INFINITY else soft
    return max(files - RESERVED, files // 4)
