"""Work in steps: a generator that yields the done share in [0, 1] and returns its result."""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
Steps = Generator[float, None, Result]


def scaled(steps: Steps[Result], start: float) -> Steps[Result]:
    """The steps of a part that begins at `start` and ends at 1."""
    while True:
        try:
            yield start + (1 - start) * next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def run(steps: Steps[Result]) -> Result:
    """The result, without looking at the steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
