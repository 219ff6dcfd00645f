"""python -m benchmarks.nas_workers: one search by one process, by two, by two of which one dies.

The processes share what workers share, a study in a real Valkey and trainings in an object store,
and each has a core of its own. All searches have the same candidates to try and the same rungs, so
the times to their ends compare. The third loses one process by SIGKILL in the middle of a training;
the other one finds that out at once, where a worker waits for the lease to run out.
"""

import argparse
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from optuna.storages import JournalStorage

from benchmarks.measure import machine
from benchmarks.photos import photo_parser, split_photos
from models.evaluation import Photos, see
from models.extractor import fit_extractor
from models.presets import preset_config, preset_recipe
from models.rungs import Rungs
from models.search import SearchConfig, search
from models.search_space import Architecture
from models.steps import run
from models.trials import Goal, Trial
from worker.embedded import EmbeddedValkey
from worker.queue import connect
from worker.shared_states import SharedStates
from worker.storage import Storage
from worker.study import RedisJournal

GOAL = Goal(objectives=("kid",))
AFTER_S = 2.0  # from the end of one training into another


@dataclass(frozen=True)
class Place:
    """Where the processes of one search meet."""

    name: str
    redis_url: str
    storage_url: str
    options: argparse.Namespace

    def rungs(self) -> Rungs:
        """The study, as this process sees it."""
        journal = RedisJournal(connect(self.redis_url, patience_s=5), self.name)
        count = len(self.options.rungs)
        return Rungs("search", JournalStorage(journal), count, GOAL, "evolution", 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search three times, and print how long each took."""
    options = _parser().parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed")
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as valkey:
        for name, count, kill in (("one", 1, False), ("two", 2, False), ("killed", 2, True)):
            place = Place(name, valkey.url, f"file://{folder}/objects", options)
            seconds, done = _searched(place, cores[:count], kill=kill)
            trained = sum(trial.seconds for trial in place.rungs().best())
            places = {(trial.candidate, trial.rung) for trial in done}
            print(
                f"{name:<7} {seconds:6.0f} s  {len(done)} trainings, {len(done) - len(places)} of"
                f" them twice; {trained:.0f} s of training",
                flush=True,
            )
    print(machine())


def _parser() -> argparse.ArgumentParser:
    parser = photo_parser(__doc__, preset="fast")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--rungs", type=int, nargs="+", default=[5_000, 15_000])
    return parser


def _searched(place: Place, cores: Sequence[int], *, kill: bool) -> tuple[float, list[Trial]]:
    """Seconds from when all are ready to when the last one is done, and what was found out."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(cores) + 1)
    processes = [context.Process(target=_take_part, args=(place, core, ready)) for core in cores]
    for process in processes:
        process.start()
    ready.wait()
    began = time.monotonic()
    if kill:
        _kill(processes[0], place, cores[0])
    for process in processes:
        process.join()
    seconds = time.monotonic() - began
    rungs = place.rungs()
    return seconds, [trial for rung in range(len(rungs)) for trial in rungs.trials(rung)]


def _kill(process: BaseProcess, place: Place, core: int) -> None:
    """In the middle of the training after the first few."""
    while len(place.rungs().trials(0)) < 4:
        time.sleep(0.5)
    time.sleep(AFTER_S)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    place.rungs().release(lambda owner: owner != str(core))


def _take_part(place: Place, core: int, ready: "multiprocessing.synchronize.Barrier") -> None:
    os.sched_setaffinity(0, [core])
    torch.set_num_threads(1)
    photos = _photos(place.options)
    options = place.options
    channels, categories = photos.training.images.shape[1], len(photos.training.categories)
    start = Architecture(
        gan=preset_config(options.preset, options.resolution, channels, categories),
        recipe=preset_recipe(options.resolution, len(photos.training.labels), flip=options.flip),
    )
    states = SharedStates(Storage.open(place.storage_url), place.name)
    config = SearchConfig(
        max_trials=options.trials, max_seconds=float("inf"), rungs=tuple(options.rungs)
    )
    rungs = place.rungs()
    ready.wait()
    while True:  # what others train may let a candidate rise, or be given up
        for _ in search(rungs, states, start, photos, config, str(core)):
            pass
        if rungs.is_idle():
            return
        time.sleep(0.2)


def _photos(options: argparse.Namespace) -> Photos:
    training, held_out = split_photos(options)
    extractor = run(fit_extractor(training, len(held_out.labels)))
    return run(see(extractor, training, held_out))


if __name__ == "__main__":
    main()
