"""Power cuts: what the disk may hold at a moment, and what of its promises the service then keeps.

One run of the whole service is recorded, with its clients' requests. Then, for each answer and for
moments between them, the worst disks that a power cut could have left are built, and the service is
started on each: all that was answered with 2xx must be there, and nothing may be half there. Redis
is not on the disk: it is rebuilt.
"""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.power.disk import Disk
from tests.chaos.power.recorder import Recorder
from tests.chaos.promises import FINISH_S, Ask, Promise, outstanding, run_clients
from tests.chaos.restart import asking, half_there, restarted, unkept
from tests.service import Service
from worker.embedded_valkey import EmbeddedValkey


@dataclass
class PowerCuts:
    """Results of the power cuts."""

    answers: int = 0  # that promised something
    cuts: int = 0
    names_at_risk: int = 0  # that were not synced at the moment of a cut, over all cuts
    promises: int = 0  # that were checked, over all cuts
    broken: list[str] = field(default_factory=list)


class Recorded(NamedTuple):
    """A run of the whole service with its clients, and its data folder at the end."""

    recorder: Recorder
    promises: list[list[Promise]]  # of each client
    data: Path


def record(folder: Path, clients: int) -> Recorded:
    """Run the service with so many clients at once, until all of them are done."""
    folder = folder.resolve()
    data = folder / "root" / "data"
    recorder = Recorder(folder, folder / "root", data / "valkey")
    return Recorded(recorder, run_clients(clients, data, recorder.environment), data)


def cut_power(recorded: Recorded, folder: Path, seed: int, most: int | None = None) -> PowerCuts:
    """Cut the power after each answer of the recorded run, and as often between answers.

    At most `most` of these moments are drawn by `seed`; what a cut leaves of the rest is, too.
    """
    recorder, promises, _ = recorded
    records, result, chance = list(recorder.records()), PowerCuts(), random.Random(seed)
    promising = {promise.request_id for each in promises for promise in each}
    after = [n for n, call in enumerate(records) if promising & {*call.arguments}]
    result.answers, middle = len(after), after[len(after) // 2]
    moments = after + chance.sample(range(len(records)), len(after))
    moments = [middle, *chance.sample(moments, min(most or len(moments), len(moments)))]
    disk, answered = Disk(recorder), set[str]()
    with EmbeddedValkey(folder / "valkey") as valkey:
        for moment, call in enumerate(records):
            disk.replay(call)
            answered |= {*call.arguments} if call.call == "answer" else set()
            if moment not in moments:
                continue
            due = [promise for each in promises for promise in outstanding(each, answered)]
            for kept in (None, chance):
                with _left(disk, folder / "left", kept) as left:
                    found = _broken(left, valkey, due)
                    found += _restarted(left, due) if moment == middle else []
                result.cuts += 1
                result.promises += len(due)
                result.names_at_risk += disk.at_risk()
                result.broken += [f"{moment}, {' '.join(call.arguments)}: {it}" for it in found]
    result.broken += [f"not recorded: {path}" for path in disk.differences()]
    return result


@contextmanager
def _left(disk: Disk, folder: Path, chance: random.Random | None) -> Iterator[Path]:
    """The data folder of the service after a power cut."""
    disk.leave(folder, chance)
    yield folder / "data"
    shutil.rmtree(folder)


def _broken(data: Path, valkey: EmbeddedValkey, promises: list[Promise]) -> list[str]:
    """What of the promises the API does not keep on what is left, and what is half there."""
    with restarted(data, valkey) as api:
        found = [*unkept(promises, api.ask), *half_there(api)]
        return found + [f"{key} is damaged" for key in api.storage.damaged]


def _restarted(data: Path, promises: list[Promise]) -> list[str]:
    """Start the whole service on what is left; returns the promises that it does not keep."""
    with closing(Service({"VITRINE_DATA_DIR": str(data)})) as service:
        service.wait_until_ready()
        ask = asking(service.client)
        deadline = time.monotonic() + FINISH_S
        while (unfinished := _unfinished(ask)) and time.monotonic() < deadline:
            time.sleep(0.5)
        found = [*(f"{job} has not ended" for job in unfinished), *unkept(promises, ask)]
        service.interrupt()
    return found


def _unfinished(ask: Ask) -> list[str]:
    jobs = ask("GET", "/jobs?limit=100").json["data"]
    return [job["id"] for job in jobs if job["finished_at"] is None]
