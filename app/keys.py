"""python -m app.keys: make an API key.

Prints a new key, once, and what the service is to know of it: an entry for VITRINE_API_KEY_HASHES,
which holds entries separated by commas. The entry contains the key's SHA-256 alone; who has lost a
key makes another one.

scopes:
  generate   POST /generate, and reading models
  manage     data sets, jobs, aliases, deleting; metrics
  metrics    GET /metrics alone, for Prometheus

example:
  python -m app.keys --scope generate --scope manage --expires 2027-01-31
"""

import argparse
import secrets
from collections.abc import Sequence
from datetime import date
from typing import get_args

from app.auth import Scope, digest_of

PREFIX = "vk_"  # by which secret scanners, and people, know a key when they see one
KEY_BYTES = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a key and print it."""
    parser = argparse.ArgumentParser(
        "python -m app.keys",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        choices=get_args(Scope),
        required=True,
        help="what the key opens; may be given several times",
    )
    parser.add_argument(
        "--expires", type=date.fromisoformat, metavar="DAY", help="the last day (UTC) it is valid"
    )
    options = parser.parse_args(arguments)
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    print(f"key    {key}")
    print(f"entry  {entry(key, options.scopes, options.expires)}")


def entry(key: str, scopes: Sequence[str], expires: date | None = None) -> str:
    """What the service is to know of a key."""
    parts = ["+".join(sorted(set(scopes))), digest_of(key)]
    if expires is not None:
        parts.append(expires.isoformat())
    return ":".join(parts)


if __name__ == "__main__":
    main()
