"""python -m tests.contract: check every operation against the OpenAPI document by Schemathesis.

Starts the whole service with a key, and sends valid, invalid and linked requests derived from the
document: to a sound service, then with a wrong key, over the rate limit, with a Redis that refuses
writes, and on damaged records. Fails if an answer is not as documented, if fewer cases ran than
required, or if a state did not show in the answers.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from app.keys import entry
from tests.service import Service
from worker.embedded_valkey import EmbeddedValkey
from worker.registry.bundled_models import SAMPLE_DATASET

CONFIG = Path(__file__).with_name("schemathesis.toml")
KEY = "contract"
PHASES = "examples,coverage,fuzzing,stateful"
# Records that the document's examples name, and objects of others beside them.
DAMAGED = (
    f"datasets/{SAMPLE_DATASET}/dataset.json",
    "models/fashion-mnist/versions/1/card.json",
    "models/fashion-mnist/aliases/production/00000001.json",
    "models/clothing/aliases/production/00000001.json",
)
STRAY = (".DS_Store", "datasets/.DS_Store", "models/old copy/card.json", "jobs/open/Thumbs.db")


@contextmanager
def _redis_refuses(data: Path) -> Iterator[None]:
    with Redis.from_url(EmbeddedValkey(data / "valkey").url) as redis:
        redis.config_set("maxmemory", 1)
        yield
        redis.config_set("maxmemory", 0)


@contextmanager
def _records_are_damaged(data: Path) -> Iterator[None]:
    for key in DAMAGED:
        (data / "objects" / key).write_bytes(b"")
    for key in STRAY:
        path = data / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stray")
    yield


@dataclass(frozen=True)
class State:
    """A state of the service, and a status that its answers must have in it."""

    shows_as: int
    key: str = KEY
    settings: dict[str, str] = field(default_factory=dict)
    brought_about: Callable[[Path], AbstractContextManager[object]] = nullcontext
    unchecked: str = ""  # a check that the state contradicts


STATES = {
    "sound": State(200),
    "wrong key": State(401, key="another"),
    "over the rate limit": State(
        429, settings={"VITRINE_RATE_LIMIT": "1/day"}, unchecked="missing_required_header"
    ),
    "Redis refuses writes": State(
        503, brought_about=_redis_refuses, unchecked="not_a_server_error"
    ),
    "records are damaged": State(
        503, brought_about=_records_are_damaged, unchecked="not_a_server_error"
    ),
}


@dataclass(frozen=True)
class Checked:
    """The report of Schemathesis, the number of cases, and whether a check failed."""

    report: str
    cases: int
    failed: bool
    statuses: Counter[int]  # of the service's answers


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the checks; exit with 1 if one failed, too few cases ran or a state did not show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("states", nargs="*", choices=STATES, default=[*STATES])
    parser.add_argument("--examples", type=int, default=300, help="of the fuzzing, an operation")
    parser.add_argument("--in-states", type=int, default=20, help="the same, in all but the first")
    parser.add_argument("--least", type=int, default=10_000, help="cases that must have run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    complaints, cases = [], 0
    for name in options.states:
        examples = options.examples if name == "sound" else options.in_states
        found = run(STATES[name], examples, options.seed)
        cases += found.cases
        shown = found.statuses[STATES[name].shows_as]
        print(found.report)
        print(f"{name}: {found.cases} cases, {shown} answers of {STATES[name].shows_as}")
        if found.failed or not shown:
            complaints.append(f"{name}: {'a check failed' if found.failed else 'did not show'}")
    if cases < options.least:
        complaints.append(f"{cases} cases; {options.least} were asked for")
    sys.exit("\n".join(complaints) or 0)


def run(state: State, examples: int, seed: int) -> Checked:
    """Check the service in one state."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(
            {
                "VITRINE_DATA_DIR": folder,
                "VITRINE_API_KEY_HASHES": entry(KEY, ["generate", "manage"]),
                "VITRINE_MAX_QUEUED_JOBS": "1000000",
                **state.settings,
            }
        )
        try:
            service.wait_until_ready()
            with state.brought_about(Path(folder)):
                found = subprocess.run(
                    _command(service.url, state, examples, seed),
                    capture_output=True,
                    text=True,
                    cwd=folder,
                )
            log = service.interrupt()
        finally:
            service.close()
    generated = re.search(r"(\d+) generated", found.stdout)
    cases = int(generated.group(1)) if generated else 0
    statuses = Counter(map(int, re.findall(r" (\d{3}) [\d.]+ ms \d+ bytes", log)))
    failed = found.returncode != 0 or statuses[500] > 0
    return Checked(found.stdout + found.stderr, cases, failed, statuses)


def _command(url: str, state: State, examples: int, seed: int) -> list[str]:
    return [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG)),
        *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {state.key}"),
        *("--phases", PHASES, "--max-examples", str(examples), "--seed", str(seed), "--no-color"),
        *("--workers", "1", "--continue-on-failure"),
        *(["--exclude-checks", state.unchecked] if state.unchecked else []),
    ]


if __name__ == "__main__":
    main()
