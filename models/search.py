"""Neural architecture search: many short trainings, of which the better ones are made longer.

The hand-made default comes first. Further candidates are proposed by evolution that listens to a
surrogate (`models.evolution`), or, to be measured by, by chance or a multi-objective TPE
("Multiobjective Tree-structured Parzen Estimator" - Ozaki et al., 2022,
https://doi.org/10.1613/jair.1.13188). They climb rungs by asynchronous successive halving ("A
System for Massively Parallel Hyperparameter Tuning" - Li et al., 2020,
https://arxiv.org/abs/1810.05934): whoever is free makes the best candidate that may go up longer,
else tries a new one. Ours differs: candidates are ranked by non-dominated fronts, and a rung is an
amount of time, in which a network that takes twice as long sees half the images.

What is known lives in `Rungs`, the trainings in `states`. With both shared, any number of processes
take part in one search, and a killed one loses the training it was in the middle of.
"""

import time
from collections.abc import Generator, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch

from models import gan
from models.checkpoint import load_state, save_state
from models.classifier import features_of
from models.evaluation import Photos, generated
from models.metrics import kernel_distance
from models.pace import pace
from models.rungs import Claim, Rungs
from models.search_space import Architecture, build, cost
from models.state import TrainState, initial_state
from models.steps import Steps, scaled
from models.train import Diverged, train
from models.trials import WORST, Trial

FIRST_SEED = 2**42  # of the images that candidates are compared by; no other seed is near
# What makes a candidate the worst instead of ending the search: a batch may be larger than the data
# set, a network than the device.
UNTRAINABLE = (Diverged, ValueError, torch.OutOfMemoryError)
TRAINING_SHARE = 0.9  # of the time of one training and its measuring
WARM_UP, TIMED = 5, 30  # single images; the median time of the latter is the latency


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How far a search goes."""

    max_trials: int = 40  # candidates
    max_seconds: float = 3600.0  # after which no other training begins
    rungs: tuple[int, ...] = (20_000, 60_000, 180_000)  # images that the default sees, in all
    keep: int = 3  # one of so many goes up a rung

    def __post_init__(self) -> None:
        if self.max_trials < 1 or self.max_seconds < 0 or self.keep < 2:
            raise ValueError("max_trials must be at least 1, max_seconds at least 0, keep 2")
        if not self.rungs or self.rungs[0] < 1 or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs must grow, from at least 1; got {self.rungs}")


@dataclass(frozen=True)
class SearchProgress:
    """Where one training of the search stands; `trial` once it is done."""

    claim: Claim
    fraction: float  # of this training, in [0, 1]
    trial: Trial | None = None


def search(
    rungs: Rungs,
    states: MutableMapping[str, bytes],
    start: Architecture,
    photos: Photos,
    config: SearchConfig,
    owner: str,
) -> Iterator[SearchProgress]:
    """Train candidates until none is left for this process, yielding after each step.

    `photos` must be the search's own: neither its held-out photos nor its extractor may be those
    that the winner is reported by. `owner` names this process in `rungs`. Seeds are those of
    `rungs`, the same for all candidates, so that these meet the same z and photos.
    """
    began = time.monotonic()
    while time.monotonic() - began < config.max_seconds:
        claim = rungs.rise(owner, config.keep) or rungs.begin(
            owner, start.point(), config.max_trials
        )
        if claim is None:
            return
        state = _state(claim, states, start, config.rungs)
        # Neither latency nor size depends on the training: what exceeds a limit is not worth one.
        trial = _weighed(claim, state) if claim.rung == 0 else None
        if trial is None or rungs.goal.holds(trial):
            trial = yield from reported(claim, _trained(claim, state, start, photos, config.rungs))
        if trial.error is None and trial.is_trained and claim.rung + 1 < len(rungs):
            states[str(claim.candidate)] = save_state(state)
        rungs.tell(claim, trial)
        yield SearchProgress(claim, 1.0, trial)


def reported(claim: Claim, steps: Steps[Trial]) -> Generator[SearchProgress, None, Trial]:
    """The steps of a training as the search's."""
    while True:
        try:
            yield SearchProgress(claim, next(steps))
        except StopIteration as end:
            trial: Trial = end.value
            return trial


def _trained(
    claim: Claim, state: TrainState, start: Architecture, photos: Photos, rungs: Sequence[int]
) -> Steps[Trial]:
    try:
        if claim.rung == 0:
            yield from scaled(pace(state, start, photos.training, rungs[0], rungs[-1]), 0.0, 0.0)
        for progress in train(state, photos.training):
            yield TRAINING_SHARE * progress.fraction
    except UNTRAINABLE as error:
        return (yield from measured(claim, state, photos, str(error)))
    return (yield from scaled(measured(claim, state, photos), TRAINING_SHARE))


def _state(
    claim: Claim, states: MutableMapping[str, bytes], start: Architecture, rungs: Sequence[int]
) -> TrainState:
    """The candidate's training; on the first rung it is `pace` that sets its length."""
    if claim.rung == 0:
        architecture = build(claim.point, start)
        return initial_state(architecture.gan, replace(architecture.recipe, seed=claim.seed))
    state = load_state(states[str(claim.candidate)])
    longer = rungs[claim.rung] / rungs[claim.rung - 1]
    images = round(state.config.max_images * longer)
    state.config = replace(state.config, max_images=images)
    return state


def measured(
    claim: Claim, state: TrainState, photos: Photos, error: str | None = None
) -> Steps[Trial]:
    """What came of a training: KID against held-out photos, latency here, parameters."""
    trial = _weighed(claim, state)
    if error is not None:
        return replace(trial, error=error)
    images = yield from generated(state.ema, photos.held_out, FIRST_SEED)
    fake = features_of(photos.extractor, images)
    return replace(trial, kid=kernel_distance(photos.features, fake).value)


def _weighed(claim: Claim, state: TrainState) -> Trial:
    """A trial without its KID."""
    return Trial(
        candidate=claim.candidate,
        rung=claim.rung,
        point=claim.point,
        images=state.images,
        seconds=state.seconds,
        kid=WORST,
        latency_ms=latency_ms(state.ema),
        parameters=cost(state.ema.config).generator_parameters,
        seed=claim.seed,
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
