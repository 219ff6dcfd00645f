"""python -m tests.fuzz: send thousands of malformed uploads to a real service."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import machine
from tests.fuzz.campaign import ANSWERS, Outcome, run, target
from tests.fuzz.refused import send_refused, settings
from tests.fuzz.requests import KINDS


def main() -> None:
    """Run the campaign, print a table, and exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refused", type=int, default=1000, help="uploads with a bad head, beside")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.inputs)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, target(Path(folder)) as aim:
        outcome = run(aim, options.seed, numbers)
    show(outcome)
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        target(Path(folder), settings(options.refused)) as aim,
    ):
        refused = send_refused(aim, options.seed, range(options.refused))
    counts = ", ".join(f"{count} times {status}" for status, count in refused.answers.items())
    print(
        f"refused by the head: {counts} within {refused.slowest_s:.2f} s; at most"
        f" {refused.most_taken_bytes / 2**20:.1f} of 32 MiB were taken, the API grew by"
        f" {refused.growth_bytes / 2**20:.1f} MiB"
    )
    print(f"{len(numbers)} inputs from seed {options.seed}, {outcome.seconds:.0f} s; {machine()}")
    if complaints := outcome.complaints + refused.complaints:
        sys.exit("\n".join(complaints))


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
