"""python -m benchmarks.serving: POST /generate of this service against other model servers.

All servers have the same weights and answer the same requests with the same images. The load
generator wrk measures them in turn in each round, so that other load on the machine affects all of
them equally. `bare` is the same work in one process without HTTP. Plain FastAPI is always measured;
other peers are measured if given. Each needs an interpreter with its package and ours, as made by

    python -m venv V && V/bin/pip install -c constraints.txt . litserve

in the repository's folder (or `bentoml`, or `ray[serve]`), and given as `--peer NAME=V/bin/python`,
where NAME is litserve, bentoml or ray. wrk is a package of Debian and Ubuntu.

`--checkout NAME=FOLDER` measures another commit of this service beside this one, in place of the
peers: FOLDER is what `git worktree add FOLDER COMMIT` makes.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.engines import random_generator
from benchmarks.measure import machine
from benchmarks.serving.servers import (
    CATEGORIES,
    PEERS,
    STARTED_PER_READING,
    Server,
    check,
    peer,
    vitrine,
)
from benchmarks.serving.wrk import Wrk
from models.checkpoint import load_model, save_model
from tests.processes import resident_bytes

OURS, BARE, FASTAPI = "vitrine", "bare", "fastapi"
SOAK_CLIENTS = 128
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Measurements of one side in one round."""

    resolution: int
    clients: int
    round: int
    side: str
    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


class Bench:
    """The weights of one resolution, and all running servers of them."""

    def __init__(self, resolution: int, options: argparse.Namespace, stack: ExitStack) -> None:
        self.resolution, self.options = resolution, options
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.weights = folder / "model.safetensors"
        self.weights.write_bytes(save_model(random_generator("balanced", resolution), CATEGORIES))
        self.wrk = Wrk(folder, CATEGORIES)
        self.model = load_model(self.weights.read_bytes(), torch.device("cpu"))
        self.servers = {OURS: stack.enter_context(vitrine(folder, self.weights))}
        for name, checkout in options.checkouts.items():
            self.servers[name] = stack.enter_context(
                vitrine(folder, self.weights, name, Path(checkout).absolute())
            )
        for name, python in options.peers.items():
            if name not in STARTED_PER_READING:
                print(f"{resolution} px: starting {name}", flush=True)
                self.servers[name] = stack.enter_context(peer(name, python, self.weights))
        for server in self.servers.values():
            with server.resumed():
                check(server, self.model)

    def readings(self) -> Iterator[Reading]:
        """Measure every side in turn, round by round."""
        for clients in self.options.clients:
            for number in range(1, self.options.rounds + 1):
                yield self._bare(clients, number)
                for server in self.servers.values():
                    yield self._served(server, clients, number)
                for name in self.options.peers.keys() - self.servers.keys():
                    with peer(name, self.options.peers[name], self.weights) as server:
                        check(server, self.model)
                        yield self._served(server, clients, number)

    def _served(self, server: Server, clients: int, number: int) -> Reading:
        with server.resumed():
            self.wrk.run(server.url, clients, self.options.warm_up)
            server.settle()
            load = self.wrk.run(server.url, clients, self.options.seconds)
            server.settle()
        return Reading(
            resolution=self.resolution,
            clients=clients,
            round=number,
            side=server.name,
            per_s=load.requests_per_s,
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            errors=load.status_errors + load.socket_errors,
        )

    def _bare(self, clients: int, number: int) -> Reading:
        command = [sys.executable, "-m", "benchmarks.serving.bare", str(self.weights)]
        command += ["--seconds", str(self.options.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        return Reading(
            resolution=self.resolution,
            clients=clients,
            round=number,
            side=BARE,
            per_s=told["images_per_s"],
            p50_ms=told["p50_ms"],
            p99_ms=told["p99_ms"],
            errors=0,
        )


def soak(bench: Bench, seconds: int) -> None:
    """Load our server alone with many clients; prints its statuses, latencies and memory."""
    server = bench.servers[OURS]
    bench.wrk.run(server.url, SOAK_CLIENTS, bench.options.warm_up)
    server.settle()
    before = resident_bytes(server.pid)
    load = bench.wrk.run(server.url, SOAK_CLIENTS, seconds, statuses=True)
    after = resident_bytes(server.pid)
    print(f"\n{bench.resolution} px, {SOAK_CLIENTS} clients, {seconds} s: {load.requests} answers")
    print(f"  by status {load.statuses}; socket errors {load.socket_errors}")
    print(f"  p50 {load.p50_ms:.0f} ms, p99 {load.p99_ms:.0f} ms, longest {load.max_ms:.0f} ms")
    print(f"  API process {before / MIB:.0f} MiB before, {after / MIB:.0f} MiB after", flush=True)


def table(readings: Sequence[Reading]) -> None:
    """Print the medians of one resolution and number of clients."""
    sides: dict[str, list[Reading]] = {}
    for reading in readings:
        sides.setdefault(reading.side, []).append(reading)
    rates = {name: median(each.per_s for each in rows) for name, rows in sides.items()}
    best = max(rate for name, rate in rates.items() if name not in (OURS, BARE))
    first = readings[0]
    print(f"\n{first.resolution} px, {first.clients} clients; medians of {len(sides[OURS])} rounds")
    print(
        f"  {'side':<10} {'requests/s':>10} {'(range)':>15} {'p50 ms':>8} {'p99 ms':>8}"
        f" {'errors':>6}  to best other  of bare"
    )
    for name, rows in sides.items():
        span = f"({min(r.per_s for r in rows):.1f}-{max(r.per_s for r in rows):.1f})"
        print(
            f"  {name:<10} {rates[name]:10.1f} {span:>15} {median(r.p50_ms for r in rows):8.1f}"
            f" {median(r.p99_ms for r in rows):8.1f} {sum(r.errors for r in rows):6}"
            f"  {rates[name] / best:12.2f}x  {rates[name] / rates[BARE]:6.0%}"
        )


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--resolutions", type=int, nargs="+", default=[32, 64, 128], choices=(28, 32, 64, 128))
    add("--clients", type=int, nargs="+", default=[1, 8, 32, 128])
    add("--rounds", type=int, default=5)
    add("--seconds", type=int, default=5, help="of each side in each round")
    add("--warm-up", type=int, default=2, help="seconds before each of those")
    add("--peer", action="append", default=[], metavar="NAME=PYTHON", help=f"of {', '.join(PEERS)}")
    add("--checkout", action="append", default=[], metavar="NAME=FOLDER", help="of another commit")
    add("--json", type=Path, help="where to keep every reading")
    add("--soak", type=int, metavar="SECONDS", help="instead: ours alone, for so long")
    options = parser.parse_args(arguments)
    options.checkouts = dict(each.split("=", 1) for each in options.checkout)
    options.peers = {} if options.checkouts else {FASTAPI: sys.executable}
    options.peers |= dict(each.split("=", 1) for each in options.peer)
    if unknown := options.peers.keys() - PEERS.keys():
        parser.error(f"no such peer: {', '.join(unknown)}")
    if options.soak:
        options.peers, options.checkouts = {}, {}
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    options = _parsed(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended
    readings: list[Reading] = []
    for resolution in options.resolutions:
        with ExitStack() as stack:
            bench = Bench(resolution, options, stack)
            if options.soak:
                soak(bench, options.soak)
                continue
            for reading in bench.readings():
                print(_line(reading), flush=True)
                readings.append(reading)
                if options.json:
                    options.json.write_text(json.dumps([asdict(each) for each in readings]))
    for resolution in options.resolutions:
        for clients in options.clients:
            rows = [r for r in readings if (r.resolution, r.clients) == (resolution, clients)]
            if rows:
                table(rows)
    print(f"\n{machine()}")


def _line(reading: Reading) -> str:
    return (
        f"{reading.resolution} px, {reading.clients} clients, round {reading.round}"
        f"  {reading.side:<10} {reading.per_s:10.1f}/s"
    )


if __name__ == "__main__":
    main()
