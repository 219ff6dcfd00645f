"""Surrogate model: Gaussian processes that predict an architecture's KID from all trainings.

One short training is a noisy measurement: another seed changes a candidate's KID by a fifth. Its
neighbours in the tree, and the same candidate on other rungs, add information. "BANANAS: Bayesian
Optimization with Neural Architectures for Neural Architecture Search" - White et al., 2021
(https://arxiv.org/abs/1910.11858) guides evolution by a predictor; ours differs: a Gaussian process
on the choices themselves, which needs no training and gives its own uncertainty.

Shapes: N points, D coordinates of one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.search.search_space import SPACE, Point
from models.search.trials import Goal, Trial

Floats = NDArray[np.float64]

FEWEST = 4  # successful trainings to fit to
MOST = 400  # trainings to fit to, the latest ones; the cost grows with the cube
RUNG_STEP = 0.5  # distance between two rungs; two values of one choice are at most 1 apart
LENGTHS = (0.7, 1.0, 1.5, 2.5, 4.0)
NOISES = (0.01, 0.1, 0.3, 1.0, 3.0)  # variance between seeds, relative to that between points
LEAST_KID = 0.02  # of the median; smaller and negative KIDs are raised to it, for the logarithm


class Surrogate:
    """Predicts log KID and every limited metric; fitted to trials of any rungs."""

    def __init__(self, trials: Sequence[Trial], goal: Goal) -> None:
        trained = [trial for trial in trials if trial.is_trained and trial.error is None][-MOST:]
        kids = np.array([trial.kid for trial in trained])
        floor = LEAST_KID * np.median(kids[kids > 0]) if (kids > 0).any() else 1.0
        logs = np.log(np.maximum(kids, floor))
        self._levels = _levels(trained, logs)
        self._kid = GaussianProcess(
            np.array([_coordinates(trial.point, trial.rung) for trial in trained]),
            logs - np.array([self._levels[trial.rung] for trial in trained]),
        )
        weighed = [trial for trial in trials if trial.error is None][-MOST:]
        x = np.array([_coordinates(trial.point) for trial in weighed])
        self._limits = {
            np.log(limit): GaussianProcess(x, np.log([float(getattr(t, name)) for t in weighed]))
            for name, limit in goal.limits.items()
        }

    @classmethod
    def of(cls, trials: Sequence[Trial], goal: Goal) -> "Surrogate | None":
        """Fit to trials; None if fewer than `FEWEST` were trained successfully."""
        telling = sum(trial.is_trained and trial.error is None for trial in trials)
        return cls(trials, goal) if telling >= FEWEST else None

    def smoothed(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials of one rung, with the KIDs that the model predicts from all trainings."""
        if not trials:
            return []
        means, _ = self._log_kid([trial.point for trial in trials], trials[0].rung)
        return [
            replace(trial, kid=float(kid)) if trial.is_trained and trial.error is None else trial
            for trial, kid in zip(trials, np.exp(means), strict=True)
        ]

    def most_promising(self, points: Sequence[Point], rung: int) -> Point:
        """The point with the lowest confidence bound of KID; those within the limits first."""
        mean, deviation = self._log_kid(points, rung)
        x = np.array([_coordinates(point) for point in points])
        excess = [process.predict(x)[0] - limit for limit, process in self._limits.items()]
        beyond = np.maximum(np.max(excess, axis=0), 0.0) if excess else np.zeros(len(points))
        return points[int(np.lexsort((mean - deviation, beyond))[0])]

    def _log_kid(self, points: Sequence[Point], rung: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation of log KID, each (N,), without the noise of a training."""
        x = np.array([_coordinates(point, rung) for point in points])
        mean, deviation = self._kid.predict(x)
        return mean + self._levels.get(rung, min(self._levels.values())), deviation


class GaussianProcess:
    """Gaussian process on coordinates (N, D) and values (N,), at its most likely length scale."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self._x = x
        self._mean = float(y.mean())
        squared = _squared_distances(x, x)
        fits = (
            self._fit(squared, y - self._mean, length, noise)
            for length in LENGTHS
            for noise in NOISES
        )
        _, self._length, self._lower, self._weights, self._scale = max(fits, key=lambda f: f[0])

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation at (N, D), each (N,)."""
        kernel = np.exp(-_squared_distances(x, self._x) / (2 * self._length**2))
        half = np.linalg.solve(self._lower, kernel.T)
        variance = np.maximum(1 - (half**2).sum(axis=0), 0.0)
        mean: Floats = self._mean + kernel @ self._weights
        return mean, np.sqrt(self._scale * variance)

    @staticmethod
    def _fit(
        squared: Floats, y: Floats, length: float, noise: float
    ) -> tuple[float, float, NDArray[Any], NDArray[Any], float]:
        """Log likelihood and the fitted parameters; the scale is the most likely one."""
        kernel = np.exp(-squared / (2 * length**2)) + noise * np.eye(len(y))
        lower = np.linalg.cholesky(kernel)
        weights = np.linalg.solve(lower.T, np.linalg.solve(lower, y))
        scale = max(float(y @ weights) / len(y), 1e-12)
        likelihood = -0.5 * len(y) * np.log(scale) - np.log(np.diag(lower)).sum()
        return float(likelihood), length, lower, weights, scale


def _levels(trials: Sequence[Trial], logs: Floats) -> dict[int, float]:
    """Mean log KID of each rung, estimated for all candidates of the lowest one.

    Only good candidates are promoted, so rungs are compared on the candidates that they share.
    """
    by_rung: dict[int, dict[int, float]] = {}
    for trial, log in zip(trials, logs, strict=True):
        by_rung.setdefault(trial.rung, {})[trial.candidate] = float(log)
    rungs = sorted(by_rung)
    levels = {rungs[0]: float(np.mean(list(by_rung[rungs[0]].values())))}
    for below, rung in zip(rungs, rungs[1:], strict=False):
        both = by_rung[below].keys() & by_rung[rung].keys()
        steps = [by_rung[rung][candidate] - by_rung[below][candidate] for candidate in both]
        levels[rung] = levels[below] + (float(np.mean(steps)) if steps else 0.0)
    return levels


def _coordinates(point: Point, rung: int = 0) -> list[float]:
    """Coordinates (D,): the rung, then each choice; numbers by index, categories one-hot."""
    places = [RUNG_STEP * rung]
    for name, values in SPACE.items():
        if any(isinstance(value, bool | str) for value in values):
            places += [float(point[name] == value) / np.sqrt(2) for value in values]
        else:
            places.append(values.index(point[name]) / (len(values) - 1))
    return places


def _squared_distances(a: Floats, b: Floats) -> Floats:
    squared: Floats = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
    return squared
