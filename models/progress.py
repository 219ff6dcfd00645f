"""Progress generators: long work that yields its completed share in [0, 1], then a result."""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
Steps = Generator[float, None, Result]


def scaled(steps: Steps[Result], start: float, end: float = 1.0) -> Steps[Result]:
    """Map a part's progress from [0, 1] to [`start`, `end`]; returns the part's result."""
    while True:
        try:
            yield start + (end - start) * next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def run(steps: Steps[Result]) -> Result:
    """Run all steps, ignoring the progress, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
