"""Time budget of a search: the lengths of its rungs and of its final trainings.

Half of the time is for the search, half is for training its best candidates to the end.
"""

import math
import time
from dataclasses import dataclass, replace

from models.data.datasets import Dataset
from models.progress import Steps
from models.search.search_space import Architecture
from models.training.state import initial_state
from models.training.train import train

SEARCH_SHARE = 0.5
MOST_RUNGS = 3
KEEP = 3  # one in KEEP candidates is promoted to a rung where training is KEEP times as long
FEWEST_IMAGES = 1000  # of the shortest training; shorter ones cannot be compared
PROBE_S, PROBE_SHARE = 5.0, 0.02  # of training to measure its speed; at most this share of the time


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Lengths of trainings, in images shown to the default; equal in all processes."""

    rungs: tuple[int, ...]
    search_seconds: float
    final_images: int
    final_seconds: float  # of each final training, by the default
    processes: int


def plan(
    images_per_second: float, max_seconds: float, max_trials: int, finals: int, processes: int
) -> Budget:
    """Divide `max_seconds` of `processes` among `max_trials` candidates and `finals` trainings."""
    search_seconds = SEARCH_SHARE * max_seconds
    count = min(MOST_RUNGS, 1 + int(math.log(max_trials, KEEP)))
    # Of n trainings of the first length, n / KEEP are made KEEP times as long, and so on: each
    # rung above the first costs (KEEP - 1) / KEEP of it.
    trainings = max_trials * (1 + (count - 1) * (KEEP - 1) / KEEP)
    first = processes * search_seconds * images_per_second / trainings
    shortest = max(FEWEST_IMAGES, round(first))
    final_seconds = (max_seconds - search_seconds) / math.ceil(finals / processes)
    return Budget(
        rungs=tuple(shortest * KEEP**rung for rung in range(count)),
        search_seconds=search_seconds,
        final_images=max(FEWEST_IMAGES, round(final_seconds * images_per_second)),
        final_seconds=final_seconds,
        processes=processes,
    )


def images_per_second(start: Architecture, dataset: Dataset, max_seconds: float) -> Steps[float]:
    """The default's training speed on this machine, measured in a small part of `max_seconds`."""
    probe_s = min(PROBE_S, PROBE_SHARE * max_seconds)
    recipe = replace(start.recipe, max_images=10**9, max_seconds=probe_s)
    state = initial_state(start.gan, recipe)
    began = time.perf_counter()
    for progress in train(state, dataset):
        yield progress.fraction
    return state.images / (time.perf_counter() - began)
