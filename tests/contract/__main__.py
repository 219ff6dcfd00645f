"""python -m tests.contract: check every operation against the OpenAPI document by Schemathesis.

Starts the whole service with a key, and sends valid, invalid and linked requests derived from the
document. Fails if an answer is not as documented, or if fewer cases ran than required.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.keys import entry
from tests.service import Service

CONFIG = Path(__file__).with_name("schemathesis.toml")
KEY = "contract"
PHASES = "examples,coverage,fuzzing,stateful"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the checks; exit with 1 if one failed or too few cases ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=300, help="of the fuzzing, an operation")
    parser.add_argument("--least", type=int, default=10_000, help="cases that must have run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    report, cases, failed = run(options.examples, options.seed)
    print(report)
    if cases < options.least:
        sys.exit(f"{cases} cases; {options.least} were asked for")
    sys.exit(failed)


def run(examples: int, seed: int) -> tuple[str, int, bool]:
    """The report of Schemathesis, the number of cases, and whether a check failed."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(
            {
                "VITRINE_DATA_DIR": folder,
                "VITRINE_API_KEY_HASHES": entry(KEY, ["generate", "manage"]),
                "VITRINE_MAX_QUEUED_JOBS": "1000000",
            }
        )
        try:
            service.wait_until_ready()
            found = subprocess.run(
                _command(service.url, examples, seed), capture_output=True, text=True, cwd=folder
            )
            service.interrupt()
        finally:
            service.close()
    generated = re.search(r"(\d+) generated", found.stdout)
    cases = int(generated.group(1)) if generated else 0
    return found.stdout + found.stderr, cases, found.returncode != 0


def _command(url: str, examples: int, seed: int) -> list[str]:
    return [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG)),
        *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {KEY}"),
        *("--phases", PHASES, "--max-examples", str(examples), "--seed", str(seed), "--no-color"),
        *("--workers", "1", "--continue-on-failure"),
    ]


if __name__ == "__main__":
    main()
