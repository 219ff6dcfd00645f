"""python -m benchmarks.nas.workers: a search by one process, by two, and by two with one killed.

The processes share a study in a Valkey server and checkpoints in an object store, as workers do,
and each has its own core. All searches have the same number of candidates and the same rungs, so
their durations can be compared. In the third search, one process is killed by SIGKILL in the middle
of a training; its task is released at once, whereas workers wait until the lease expires.
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
from models.evaluation.evaluation_set import EvaluationSet, look_at_photos
from models.evaluation.extractors import choice_extractor
from models.pretrain import judge_of_grey
from models.progress import run
from models.search.search import SearchConfig, search
from models.search.search_space import Architecture
from models.search.successive_halving import SuccessiveHalving
from models.search.trials import Goal, Trial
from models.training.presets import preset_config, preset_recipe
from worker.embedded_valkey import EmbeddedValkey
from worker.queue.queue import connect
from worker.search.redis_journal import RedisJournal
from worker.search.shared_states import SharedStates
from worker.storage import Storage

GOAL = Goal(objectives=("kid",))
AFTER_S = 2.0  # from the end of one training into the next


@dataclass(frozen=True)
class Place:
    """Names the study and the storage that the processes of one search share."""

    name: str
    redis_url: str
    storage_url: str
    options: argparse.Namespace

    def rungs(self) -> SuccessiveHalving:
        """This process's view of the study."""
        journal = RedisJournal(connect(self.redis_url, timeout_s=5), self.name)
        count = len(self.options.rungs)
        return SuccessiveHalving("search", JournalStorage(journal), count, GOAL, "evolution", 0)


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
    """Seconds from when all processes are ready until the last one ends, and the trials."""
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
    """Kill the process in the middle of a training, after the first four trials."""
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
    while True:  # others' results may allow promotions, or tasks be released
        for _ in search(rungs, states, start, photos, config, str(core)):
            pass
        if rungs.is_idle():
            return
        time.sleep(0.2)


def _photos(options: argparse.Namespace) -> EvaluationSet:
    training, held_out = split_photos(options)
    cnn = judge_of_grey(None, training, len(held_out.labels))
    return run(look_at_photos(choice_extractor(cnn), training, held_out))


if __name__ == "__main__":
    main()
