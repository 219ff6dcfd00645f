"""python -m app.keys: make an API key.

Prints a new key and its entry for VITRINE_API_KEY_HASHES, which holds entries separated by commas.
The key is shown only once: the entry contains nothing but its SHA-256. A lost key cannot be
recovered; make another one.

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

PREFIX = "vk_"  # lets secret scanners and people recognise a key
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
    """The entry of a key for `VITRINE_API_KEY_HASHES`."""
    parts = ["+".join(sorted(set(scopes))), digest_of(key)]
    if expires is not None:
        parts.append(expires.isoformat())
    return ":".join(parts)


if __name__ == "__main__":
    main()
