"""Neural architecture search by successive halving: many short trainings, the best extended.

The hand-made default is tried first. Further candidates are proposed by evolution with a surrogate
model (`models.search.evolution`) or, as baselines, at random or by a multi-objective TPE
("Multiobjective Tree-structured Parzen Estimator" - Ozaki et al., 2022,
https://doi.org/10.1613/jair.1.13188). They are promoted by asynchronous successive halving ("A
System for Massively Parallel Hyperparameter Tuning" - Li et al., 2020,
https://arxiv.org/abs/1810.05934): a free process extends the training of the best candidate that
can be promoted, else it tries a new one. Ours differs: candidates are ranked by non-dominated
fronts, and a rung is an amount of time, in which a network of half the speed sees half the images.

`SuccessiveHalving` stores the results, `states` the checkpoints. If both are shared, any number of
processes can take part in one search, and a killed process loses only its current training.
"""

import math
import time
from collections.abc import Generator, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch

from models.checkpoint import load_state, save_state
from models.evaluation.evaluation_set import EvaluationSet
from models.networks import gan
from models.progress import Steps, scaled
from models.search.equal_time import equalise_time
from models.search.search_space import Architecture, build, cost
from models.search.successive_halving import SuccessiveHalving, TrainingTask
from models.search.trials import WORST, Trial
from models.training.state import TrainState, initial_state
from models.training.train import Diverged, train

FIRST_SEED = 2**42  # of the images that candidates are compared by; far from other seeds
# These errors rank a candidate last instead of ending the search: its batch may be larger than the
# data set, or its networks larger than the device's memory.
UNTRAINABLE = (Diverged, ValueError, torch.OutOfMemoryError)
TRAINING_SHARE = 0.9  # of a task's progress; the rest is its evaluation
WARM_UP, TIMED = 5, 30  # single images; the median time of the latter is the latency


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Budget and rungs of a search."""

    max_trials: int = 40  # candidates
    max_seconds: float = 3600.0  # after which a training that has not ended is dropped
    rungs: tuple[int, ...] = (20_000, 60_000, 180_000)  # images shown to the default, cumulative
    keep: int = 3  # one in this many candidates is promoted

    def __post_init__(self) -> None:
        if self.max_trials < 1 or self.max_seconds < 0 or self.keep < 2:
            raise ValueError("max_trials must be at least 1, max_seconds at least 0, keep 2")
        if not self.rungs or self.rungs[0] < 1 or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs must grow, from at least 1; got {self.rungs}")


@dataclass(frozen=True)
class SearchProgress:
    """Progress of one training of the search; `trial` is set once it is done."""

    task: TrainingTask
    fraction: float  # of this training, in [0, 1]
    trial: Trial | None = None


def search(
    rungs: SuccessiveHalving,
    states: MutableMapping[str, bytes],
    start: Architecture,
    photos: EvaluationSet,
    config: SearchConfig,
    owner: str,
) -> Iterator[SearchProgress]:
    """Train candidates until none is left for this process, yielding after each step.

    `photos` must be the search's own: neither its held-out photos nor its extractor may be those of
    the winner's report. `owner` identifies this process in `rungs`. All candidates use
    the seed of `rungs`, and therefore the same z and photos.
    """
    until = time.monotonic() + config.max_seconds
    while time.monotonic() < until:
        task = rungs.promote(owner, config.keep) or rungs.propose(
            owner, start.point(), config.max_trials
        )
        if task is None:
            return
        state = _state(task, states, start, config.rungs)
        # Latency and size do not depend on training: a candidate beyond a limit is not trained.
        trial = unscored_trial(task, state) if task.rung == 0 else None
        if trial is None or rungs.goal.holds(trial):
            training = _train_candidate(task, state, start, photos, config.rungs)
            trial = yield from with_progress(task, training, until)
            if trial is None:
                task.drop()
                return
        if trial.error is None and trial.is_trained and task.rung + 1 < len(rungs):
            states[str(task.candidate)] = save_state(state)
        rungs.record(task, trial)
        yield SearchProgress(task, 1.0, trial)


def with_progress(
    task: TrainingTask, steps: Steps[Trial], until: float = math.inf
) -> Generator[SearchProgress, None, Trial | None]:
    """Wrap a training's progress in `SearchProgress`; returns its trial.

    None if it has not ended by `until`, by `time.monotonic`.
    """
    while True:
        if time.monotonic() >= until:
            steps.close()
            return None
        try:
            yield SearchProgress(task, next(steps))
        except StopIteration as end:
            trial: Trial = end.value
            return trial


def _train_candidate(
    task: TrainingTask,
    state: TrainState,
    start: Architecture,
    photos: EvaluationSet,
    rungs: Sequence[int],
) -> Steps[Trial]:
    try:
        if task.rung == 0:
            yield from scaled(
                equalise_time(state, start, photos.training, rungs[0], rungs[-1]), 0.0, 0.0
            )
        for progress in train(state, photos.training):
            yield TRAINING_SHARE * progress.fraction
    except UNTRAINABLE as error:
        return (yield from measure(task, state, photos, str(error)))
    return (yield from scaled(measure(task, state, photos), TRAINING_SHARE))


def _state(
    task: TrainingTask,
    states: MutableMapping[str, bytes],
    start: Architecture,
    rungs: Sequence[int],
) -> TrainState:
    """The candidate's training state; on the first rung, `equalise_time` later sets its length."""
    if task.rung == 0:
        architecture = build(task.point, start)
        return initial_state(architecture.gan, replace(architecture.recipe, seed=task.seed))
    state = load_state(states[str(task.candidate)])
    longer = rungs[task.rung] / rungs[task.rung - 1]
    images = round(state.config.max_images * longer)
    state.config = replace(state.config, max_images=images)
    return state


def measure(
    task: TrainingTask, state: TrainState, photos: EvaluationSet, error: str | None = None
) -> Steps[Trial]:
    """The trial of a training: KID against held-out photos, latency on this device, parameters."""
    trial = unscored_trial(task, state)
    if error is not None:
        return replace(trial, error=error)
    return replace(trial, kid=(yield from photos.compare(state.ema, FIRST_SEED)))


def unscored_trial(task: TrainingTask, state: TrainState) -> Trial:
    """A trial with latency and parameters; its KID is `WORST`."""
    return Trial(
        candidate=task.candidate,
        rung=task.rung,
        point=task.point,
        images=state.images,
        seconds=state.seconds,
        kid=WORST,
        latency_ms=latency_ms(state.ema),
        parameters=cost(state.ema.config).generator_parameters,
        seed=task.seed,
    )


@torch.inference_mode()
def latency_ms(generator: gan.Generator) -> float:
    """Median time of generating one image, on the generator's own device."""
    device = generator.stem.weight.device
    z = torch.zeros(1, generator.config.z_dim, device=device)
    label = torch.zeros(1, dtype=torch.int64, device=device)
    times = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        generator(z, label).cpu()
        times.append(time.perf_counter() - began)
    return 1000 * median(times[WARM_UP:])
