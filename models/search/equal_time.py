"""Equal-time training: a candidate trains for as long as the default takes for some images.

The number of images follows from the candidate's measured speed. FLOPs would be a less noisy
measure, but small networks do far fewer of them per second than large ones, and a search's budget
is time. A candidate and the default take steps in turn, so that other load on the machine slows
both equally. Once the number of images is set, a training is repeatable.
"""

import time
from dataclasses import replace

from models.data.datasets import Dataset
from models.progress import Steps
from models.search.search_space import Architecture
from models.training.presets import ANNEAL_IMAGES
from models.training.state import TrainState, initial_state
from models.training.train import train

WARM_UP_STEPS = 3
TIMED_STEPS = 16  # one of which computes the gradient penalties
ENDLESS = 10**12  # images


def equalise_time(
    state: TrainState, start: Architecture, dataset: Dataset, images: int, longest: int
) -> Steps[None]:
    """Set a new training's `max_images`, for the time that the default takes for `images`.

    Its schedules end after the time that the default takes for `longest` images.
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
    """A candidate's images per second in training, as a multiple of the default's."""
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
