"""python -m tests.chaos: inject faults into the job system, and count lost and doubled jobs."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import machine
from tests.chaos.damage import damage_objects
from tests.chaos.freezes import freeze_jobs
from tests.chaos.history import Verdict
from tests.chaos.kills import WHOM, Killed, kill_jobs
from tests.chaos.outages import ANSWER_S, BACK_S, kill_redis, one_key, redis_away
from tests.chaos.power import recorder
from tests.chaos.power.cuts import cut_power, record
from tests.chaos.promises import outstanding, run_clients
from tests.chaos.redis_errors import refuse
from tests.chaos.storage_faults import harm_every_call
from tests.chaos.world import World
from tests.s3 import S3Server

REQUEUE_S = 30.0  # after the death of a worker


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen scenarios and print a table of the results; exits with 1 on a complaint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=SCENARIOS, default=[*SCENARIOS])
    parser.add_argument("--kills", type=int, nargs=4, default=[50, 50, 50, 50], metavar=WHOM)
    parser.add_argument("--freezes", type=int, default=30)
    parser.add_argument("--redis-kills", type=int, default=20)
    parser.add_argument("--away", type=float, nargs="+", default=[1, 10, 60], help="seconds")
    parser.add_argument("--refused", type=float, default=10, help="seconds of each Redis error")
    parser.add_argument("--requests", type=int, default=1000, help="with one key, at once")
    parser.add_argument("--faults", type=int, help="of the store; every call where left out")
    parser.add_argument("--clients", type=int, default=3, help="before the power is cut")
    parser.add_argument("--cuts", type=int, help="of the power; twice for each answer if left out")
    parser.add_argument("--damages", type=int, help="of objects; each in each way if left out")
    parser.add_argument("--worlds", type=int, default=4, help="job systems that are killed at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    server, complaints = S3Server(), list[str]()
    print(f"{'':<44} {'faults':>6} {'jobs':>5} {'lost':>5} {'doubled':>7}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for name in options.scenarios:
            for row in SCENARIOS[name](options, server, Path(folder)):
                verdict = row.verdict
                print(
                    f"{row.name:<44} {row.faults:>6} {verdict.accepted:>5} {len(verdict.lost):>5}"
                    f" {len(verdict.doubled):>7}  {row.note}",
                    flush=True,
                )
                complaints += [*verdict.complaints, *row.complaints]
                print(*row.complaints, sep="\n", end="\n" * bool(row.complaints), flush=True)
    server.close()
    print(machine())
    if complaints:
        sys.exit("\n".join(complaints))


@dataclass
class Row:
    """One line of the table."""

    name: str
    faults: int
    verdict: Verdict
    note: str
    complaints: list[str] = field(default_factory=list)


def _kills(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:
    worlds = options.worlds

    def part(number: int) -> Killed:
        wanted = {
            whom: count // worlds + (number < count % worlds)
            for whom, count in zip(WHOM, options.kills, strict=True)
        }
        with closing(World(folder, server, f"kills-{number}")) as world:
            return kill_jobs(world, options.seed + number, wanted)

    total = Killed()
    with ThreadPoolExecutor(worlds) as pool:
        for each in pool.map(part, range(worlds)):
            total.add(each)
    kinds = ", ".join(f"{count} {whom}" for whom, count in total.kills.items())
    note = (
        f"{total.jobs - total.different} of {total.jobs} with the same weights; queued again after"
        f" {total.slowest_requeue_s:.1f} s at most; redone {total.redone} times from further back"
        " than the newest checkpoint"
    )
    kept = not total.different and not total.redone and total.slowest_requeue_s <= REQUEUE_S
    complaints = [] if kept else [note]
    yield Row(f"SIGKILL ({kinds})", sum(total.kills.values()), total.verdict, note, complaints)


def _freezes(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:
    with closing(World(folder, server, "freezes", lease_s=4.0)) as world:
        found = freeze_jobs(world, options.seed, options.freezes)
    note = f"{found.hung} of them a hung horse; {len(found.stale)} stale writes"
    yield Row("SIGSTOP beyond the lease", found.freezes, found.verdict, note, found.stale)


def _redis(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:
    with closing(World(folder, server, "redis")) as world:
        found = kill_redis(world, options.seed, options.redis_kills)
    note = f"{found.refused} submits were told to come again"
    faults = found.redis_kills + found.wipes
    yield Row("Redis killed under submits, then wiped", faults, found.verdict, note)


def _away(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:
    for seconds in options.away:
        with closing(World(folder, server, f"away-{seconds:.0f}")) as world:
            found = redis_away(world, seconds)
        note = (
            f"{found.steps} steps trained meanwhile, attempt {found.attempts}; {found.answers}"
            f" times 503 within {found.slowest_answer_s:.2f} s; back after {found.back_s:.2f} s"
        )
        kept = found.attempts == 1 and found.slowest_answer_s < ANSWER_S and found.back_s < BACK_S
        complaints = [] if kept else [note]
        yield Row(f"Redis away for {seconds:.0f} s", 1, found.verdict, note, complaints)


def _errors(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:
    with closing(World(folder, server, "errors")) as world:
        found = refuse(world, options.refused)
    answers = ", ".join(f"{count} times {status}" for status, count in found.answers.items())
    note = (
        f"{found.steps} steps trained meanwhile, attempt {found.attempts}, {found.deaths} deaths;"
        f" the API said {answers},"
        f" within {found.slowest_answer_s:.2f} s"
    )
    kept = found.answers.keys() <= {202, 503} and (found.attempts, found.deaths) == (1, 0)
    kept = kept and found.steps > 0
    kinds = ", ".join(f"{count} {word}" for word, count in found.errors.items())
    complaints = [] if kept else [note]
    yield Row(f"Redis errors ({kinds})", len(found.errors), found.verdict, note, complaints)


def _key(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:
    with closing(World(folder, server, "key")) as world:
        made = one_key(world, options.requests)
        verdict = Verdict(accepted=len(made))
    complaints = [] if len(made) == 1 else [f"one key made {len(made)} jobs"]
    yield Row("requests at once with one key", options.requests, verdict, "", complaints)


def _storage(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:  # noqa: ARG001 - on files
    found = harm_every_call(folder / "storage", options.seed, options.faults)
    for kind, count in found.fired.items():
        yield Row(f"store {kind}", count, Verdict(), "")
    note = f"{found.different} with other weights, {len(found.failed)} failed"
    yield Row(f"store, each of {found.calls} calls", 0, found.verdict, note, found.failed)


def _power(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:  # noqa: ARG001 - on files
    if not recorder.is_possible():
        sys.exit(recorder.NEEDS)
    (folder / "power").mkdir()
    recorded = record(folder / "power", options.clients)
    found = cut_power(recorded, folder / "power", options.seed, options.cuts)
    note = (
        f"{found.answers} answers, of whose promises {found.promises} were checked,"
        f" {len(found.broken)} broken; {found.names_at_risk} names were not synced"
    )
    yield Row("power cut", found.cuts, Verdict(), note, found.broken)


def _damage(options: argparse.Namespace, server: S3Server, folder: Path) -> Iterator[Row]:  # noqa: ARG001 - on files
    (folder / "damage").mkdir()
    data = folder / "damage" / "data"
    [promises] = run_clients(1, data, {})
    due = outstanding(promises, {promise.request_id for promise in promises})
    found = damage_objects(data, due, folder / "damage", options.seed, options.damages)
    for way, count in found.done.items():
        yield Row(f"an object {way}", count, Verdict(), "")
    note = f"{found.noticed} damages reported, or answered with 503"
    yield Row("stray objects, all at once", found.stray, Verdict(), note, found.complaints)


SCENARIOS: dict[str, Callable[[argparse.Namespace, S3Server, Path], Iterator[Row]]] = {
    "kills": _kills,
    "freezes": _freezes,
    "redis": _redis,
    "away": _away,
    "errors": _errors,
    "key": _key,
    "storage": _storage,
    "power": _power,
    "damage": _damage,
}

if __name__ == "__main__":
    main()
