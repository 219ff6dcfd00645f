"""Neural architecture search: many short trainings, of which the better ones are made longer.

Candidates are asked of a multi-objective TPE ("Multiobjective Tree-structured Parzen Estimator" -
Ozaki et al., 2022, https://doi.org/10.1613/jair.1.13188), the hand-made default first. They climb
rungs by asynchronous successive halving ("A System for Massively Parallel Hyperparameter Tuning" -
Li et al., 2020, https://arxiv.org/abs/1810.05934): whoever is free makes the best candidate that
may go up longer, else tries a new one. Ours differs: candidates are ranked by non-dominated fronts,
and a rung is an amount of arithmetic, so that a network that costs twice as much sees half the
images.

What is known lives in `Rungs`, the trainings in `states`. With both shared, any number of processes
take part in one search, and a killed one loses the training it was in the middle of.
"""

import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, replace
from statistics import median

import torch

from models.checkpoint import load_state, save_state
from models.classifier import features_of
from models.evaluation import Photos, generate_like
from models.gan import Generator
from models.metrics import kernel_distance
from models.rungs import Claim, Rungs
from models.search_space import Architecture, build, cost, images_for
from models.state import TrainState, initial_state
from models.train import Diverged, train
from models.trials import WORST, Limits, Trial

FIRST_SEED = 2**42  # of the images that candidates are compared by; no other seed is near
WARM_UP, TIMED = 5, 30  # single images; the median time of the latter is the latency


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How far a search goes."""

    max_trials: int = 40  # candidates
    max_seconds: float = 3600.0  # after which no other training begins
    rungs: tuple[int, ...] = (20_000, 60_000, 180_000)  # images that the default sees, in all
    keep: int = 3  # one of so many goes up a rung
    limits: Limits = Limits()
    seed: int = 0  # of all trainings alike, so that candidates meet the same z and photos

    def __post_init__(self) -> None:
        if self.max_trials < 1 or self.max_seconds <= 0 or self.keep < 2:
            raise ValueError("max_trials must be at least 1, max_seconds positive, keep at least 2")
        if not self.rungs or self.rungs[0] < 1 or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs must grow, from at least 1; got {self.rungs}")


@dataclass(frozen=True)
class SearchProgress:
    """Where one training of the search stands; `trial` once it is done."""

    candidate: int
    rung: int
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
    that the winner is reported by. `owner` names this process in `rungs`.
    """
    began = time.monotonic()
    while time.monotonic() - began < config.max_seconds:
        claim = rungs.rise(owner, config.keep, config.limits) or rungs.begin(
            owner, start.point(), config.max_trials
        )
        if claim is None:
            return
        state, error = _state(claim, states, start, config), None
        try:
            for progress in train(state, photos.training):
                yield SearchProgress(claim.candidate, claim.rung, progress.fraction)
        except Diverged as diverged:
            error = str(diverged)
        if error is None and claim.rung + 1 < len(rungs):
            states[str(claim.candidate)] = save_state(state)
        trial = _judged(claim, state, photos, error)
        rungs.tell(claim, trial, config.limits)
        yield SearchProgress(claim.candidate, claim.rung, 1.0, trial)


def _state(
    claim: Claim, states: MutableMapping[str, bytes], start: Architecture, config: SearchConfig
) -> TrainState:
    """The candidate's training, to be made as long as its rung asks."""
    architecture = build(claim.point, start)
    images = images_for(config.rungs[claim.rung], architecture, start)
    if claim.rung > 0:
        state = load_state(states[str(claim.candidate)])
        state.config = replace(state.config, max_images=images)
        return state
    recipe = architecture.budgeted(images, float("inf"), config.seed)
    anneal_images = images_for(recipe.anneal_images, architecture, start)
    return initial_state(architecture.gan, replace(recipe, anneal_images=anneal_images))


def _judged(claim: Claim, state: TrainState, photos: Photos, error: str | None) -> Trial:
    kid = WORST
    if error is None:
        images = generate_like(state.ema, photos.held_out, FIRST_SEED)
        kid = kernel_distance(photos.features, features_of(photos.extractor, images)).value
    return Trial(
        candidate=claim.candidate,
        rung=claim.rung,
        point=claim.point,
        images=state.images,
        seconds=state.seconds,
        kid=kid,
        latency_ms=latency_ms(state.ema),
        parameters=cost(state.ema.config).generator_parameters,
        error=error,
    )


@torch.inference_mode()
def latency_ms(generator: Generator) -> float:
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
