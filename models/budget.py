"""How a search spends its time: how long the rungs are, and the final trainings.

Half of the time is the search's, half is for training its best candidates to the end.
"""

import math
import time
from dataclasses import dataclass, replace

from models.datasets import Dataset
from models.search_space import Architecture
from models.state import initial_state
from models.steps import Steps
from models.train import train

SEARCH_SHARE = 0.5
MOST_RUNGS = 3
KEEP = 3  # one of so many candidates goes up a rung, where its training is so many times as long
FEWEST_IMAGES = 1000  # of the shortest training; what has seen fewer cannot be compared
PROBE_S, PROBE_SHARE = 5.0, 0.02  # of training to learn its speed; at most so much of the time


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Lengths of trainings, in images that the default sees; equal for all who take part."""

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
    """How fast the default trains here, by a small part of `max_seconds`."""
    probe_s = min(PROBE_S, PROBE_SHARE * max_seconds)
    recipe = replace(start.recipe, max_images=10**9, max_seconds=probe_s)
    state = initial_state(start.gan, recipe)
    began = time.perf_counter()
    for progress in train(state, dataset):
        yield progress.fraction
    return state.images / (time.perf_counter() - began)
