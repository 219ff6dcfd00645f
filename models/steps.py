"""Work in steps: a generator that yields the done share in [0, 1] and returns its result."""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
Steps = Generator[float, None, Result]


def scaled(steps: Steps[Result], start: float, end: float = 1.0) -> Steps[Result]:
    """The steps of a part that takes the share from `start` to `end`."""
    while True:
        try:
            yield start + (end - start) * next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def run(steps: Steps[Result]) -> Result:
    """The result, without looking at the steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
