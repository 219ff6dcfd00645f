"""python -m tests.contract: every operation against what its document promises, by Schemathesis.

Starts the whole service with a key, and asks it for what the document says is right, wrong and
linked. Fails where an answer is not as documented, or fewer cases ran than were asked for.
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
    """Run it, and end with 1 where a check failed."""
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
    """What Schemathesis says, how many cases it ran, and whether a check failed."""
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
