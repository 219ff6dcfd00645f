"""python -m tests.fuzz: send thousands of malformed uploads to a real service."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import machine
from tests.fuzz.campaign import ANSWERS, Outcome, run, target
from tests.fuzz.requests import KINDS


def main() -> None:
    """Run the campaign, print a table, and exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.inputs)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, target(Path(folder)) as aim:
        outcome = run(aim, options.seed, numbers)
    show(outcome)
    print(f"{len(numbers)} inputs from seed {options.seed}, {outcome.seconds:.0f} s; {machine()}")
    if outcome.complaints:
        sys.exit("\n".join(outcome.complaints))


def show(outcome: Outcome) -> None:
    """Print the answers by kind of input, the error codes and the growth in memory."""
    others = {status for _, status in outcome.answers} - {*ANSWERS}
    statuses = (*ANSWERS, *sorted(others))
    print(f"{'':<22}" + "".join(f"{status:>7}" for status in statuses))
    for kind in KINDS:
        counts = (outcome.answers[kind, status] for status in statuses)
        print(f"{kind:<22}" + "".join(f"{count:>7}" for count in counts))
    print(", ".join(f"{code} {count}" for code, count in outcome.codes.most_common()))
    print(f"the API grew by {outcome.growth_bytes / 2**20:.1f} MiB at most")


if __name__ == "__main__":
    main()
