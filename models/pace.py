"""Trainings of equal time: how many images a candidate is shown while the default sees so many.

Counted operations would be the steadier measure, but small networks do far fewer of them in a
second than large ones, and seconds are what a search has. A candidate and the default take steps by
turns, so that whatever else runs on the machine slows both alike. Once the images are set, a
training is repeatable.
"""

import time
from dataclasses import replace

from models.datasets import Dataset
from models.presets import ANNEAL_IMAGES
from models.search_space import Architecture
from models.state import TrainState, initial_state
from models.steps import Steps
from models.train import train

WARM_UP_STEPS = 3
TIMED_STEPS = 16  # among which one has the penalties
ENDLESS = 10**12  # images


def pace(
    state: TrainState, start: Architecture, dataset: Dataset, images: int, longest: int
) -> Steps[None]:
    """Make a fresh training as long as one of the default over `images` takes.

    Its schedules end with what takes as long as `longest`.
    """
    candidate = Architecture(gan=state.generator.config, recipe=state.config)
    speed = yield from relative_speed(candidate, start, dataset)
    state.config = replace(
        state.config,
        max_images=max(state.config.batch_size, round(images * speed)),
        max_seconds=float("inf"),
        anneal_images=min(ANNEAL_IMAGES, max(1, round(longest * speed))),
    )


def relative_speed(candidate: Architecture, start: Architecture, dataset: Dataset) -> Steps[float]:
    """Images a second in training, as a multiple of the default's."""
    if candidate.point() == start.point():
        return 1.0
    trainings = [
        train(initial_state(each.gan, replace(each.recipe, max_images=ENDLESS)), dataset)
        for each in (candidate, start)
    ]
    shown, seconds = [0, 0], [0.0, 0.0]
    for step in range(WARM_UP_STEPS + TIMED_STEPS):
        for side, training in enumerate(trainings):
            began = time.perf_counter()
            progress = next(training)
            float(progress.outcome.loss_generator)  # waits for the device
            if step >= WARM_UP_STEPS:
                seconds[side] += time.perf_counter() - began
            shown[side] = progress.images // (step + 1)  # images a step
        yield step / (WARM_UP_STEPS + TIMED_STEPS)
    return (shown[0] / seconds[0]) / (shown[1] / seconds[1])
