"""Time budget of a search: the lengths of its rungs and of its final trainings.

Half of the time is for the search, half is for training its best candidates to the end. How long
the final trainings are is settled when the search is over, by the time that is left.
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


FINAL_SHARE = 0.9  # of a final training's time, that its images are planned to take


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the processes of a search agree on before it; rungs in images shown to the default."""

    rungs: tuple[int, ...]
    search_seconds: float
    images_per_second: float  # of the default, in training
    processes: int
    began_s: float = 0.0  # when the search began, on the job's clock
    ends_s: float = math.inf  # when the last final training is to end


@dataclass(frozen=True, kw_only=True)
class FinalLength:
    """What the processes of a search agree on before the final trainings: the length of each."""

    trainings: int
    images: int  # shown to the default
    seconds: float  # at most, for every finalist


def plan(images_per_second: float, max_seconds: float, max_trials: int, processes: int) -> Budget:
    """Divide the search's part of `max_seconds` of `processes` among `max_trials` candidates."""
    search_seconds = SEARCH_SHARE * max_seconds
    count = min(MOST_RUNGS, 1 + int(math.log(max_trials, KEEP)))
    # Of n trainings of the first length, n / KEEP are made KEEP times as long, and so on: each
    # rung above the first costs (KEEP - 1) / KEEP of it.
    trainings = max_trials * (1 + (count - 1) * (KEEP - 1) / KEEP)
    first = processes * search_seconds * images_per_second / trainings
    shortest = max(FEWEST_IMAGES, round(first))
    return Budget(
        rungs=tuple(shortest * KEEP**rung for rung in range(count)),
        search_seconds=search_seconds,
        images_per_second=images_per_second,
        processes=processes,
    )


def plan_finals(
    images_per_second: float, seconds: float, finals: int, processes: int, measuring_s: float = 0.0
) -> FinalLength:
    """Divide `seconds` of `processes` among the final trainings, each measured after it."""
    each = max(1.0, seconds / math.ceil(finals / processes) - measuring_s)
    images = max(FEWEST_IMAGES, round(FINAL_SHARE * each * images_per_second))
    return FinalLength(trainings=finals, images=images, seconds=each)


def images_per_second(start: Architecture, dataset: Dataset, max_seconds: float) -> Steps[float]:
    """The default's training speed on this machine, measured in a small part of `max_seconds`."""
    probe_s = min(PROBE_S, PROBE_SHARE * max_seconds)
    recipe = replace(start.recipe, max_images=10**9, max_seconds=probe_s)
    state = initial_state(start.gan, recipe)
    began = time.perf_counter()
    for progress in train(state, dataset):
        yield progress.fraction
    return state.images / (time.perf_counter() - began)
