"""python -m tests.chaos: harm the job system on purpose, and count what is lost."""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.freezes import freeze_jobs
from tests.chaos.kills import WHOM, Killed, kill_jobs
from tests.chaos.outages import kill_redis, one_key, redis_away
from tests.chaos.storage_faults import harm_every_call
from tests.chaos.world import World
from tests.s3 import S3Server


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scenarios that are asked for, and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=SCENARIOS, default=[*SCENARIOS])
    parser.add_argument("--kills", type=int, nargs=4, default=[50, 50, 50, 50], metavar=WHOM)
    parser.add_argument("--freezes", type=int, default=30)
    parser.add_argument("--redis-kills", type=int, default=20)
    parser.add_argument("--away", type=float, nargs="+", default=[1, 10, 60], help="seconds")
    parser.add_argument("--requests", type=int, default=1000, help="with one key, at once")
    parser.add_argument("--faults", type=int, help="of the store; every call where left out")
    parser.add_argument("--worlds", type=int, default=4, help="job systems that are killed at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    server = S3Server()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for name in options.scenarios:
            began = time.monotonic()
            SCENARIOS[name](options, server, Path(folder))
            print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
    server.close()


def _kills(options: argparse.Namespace, server: S3Server, folder: Path) -> None:
    worlds = options.worlds

    def part(number: int) -> Killed:
        wanted = {
            whom: count // worlds + (number < count % worlds)
            for whom, count in zip(WHOM, options.kills, strict=True)
        }
        with World(folder, server, f"kills-{number}") as world:
            return kill_jobs(world, options.seed + number, wanted)

    result = Killed()
    with ThreadPoolExecutor(worlds) as pool:
        for each in pool.map(part, range(worlds)):
            result.add(each)
    print(result)


def _freezes(options: argparse.Namespace, server: S3Server, folder: Path) -> None:
    with World(folder, server, "freezes", lease_s=4.0) as world:
        print(freeze_jobs(world, options.seed, options.freezes))


def _redis(options: argparse.Namespace, server: S3Server, folder: Path) -> None:
    with World(folder, server, "redis") as world:
        print(kill_redis(world, options.seed, options.redis_kills))


def _away(options: argparse.Namespace, server: S3Server, folder: Path) -> None:
    for seconds in options.away:
        with World(folder, server, f"away-{seconds:.0f}") as world:
            print(redis_away(world, seconds))


def _key(options: argparse.Namespace, server: S3Server, folder: Path) -> None:
    with World(folder, server, "key") as world:
        print(f"{options.requests} requests, {len(one_key(world, options.requests))} job")


def _storage(options: argparse.Namespace, server: S3Server, folder: Path) -> None:  # noqa: ARG001 - on files
    print(harm_every_call(folder / "storage", options.seed, options.faults))


SCENARIOS: dict[str, Callable[[argparse.Namespace, S3Server, Path], None]] = {
    "kills": _kills,
    "freezes": _freezes,
    "redis": _redis,
    "away": _away,
    "key": _key,
    "storage": _storage,
}

if __name__ == "__main__":
    main()
