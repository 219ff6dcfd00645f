"""Optuna adapter: the search space's tree as Optuna's integer and categorical parameters."""

import optuna

from models.search.search_space import (
    EVERYTHING,
    SPACE,
    Choice,
    Narrowed,
    Point,
    decide,
)


def suggest(asked: optuna.Trial, name: str, values: tuple[Choice, ...]) -> Choice:
    """Optuna's choice; numbers are suggested by index, so that Optuna can use their order."""
    key = _key(name, values)
    if _is_ordered(values):
        return values[asked.suggest_int(key, 0, len(values) - 1)]
    return values[values.index(asked.suggest_categorical(key, values))]


def encoded(point: Point, narrowed: Narrowed = EVERYTHING) -> dict[str, Choice]:
    """The point as the parameters that `suggest` uses."""
    words: dict[str, Choice] = {}

    def choose(name: str, values: tuple[Choice, ...]) -> Choice:
        chosen = point[name]
        words[_key(name, values)] = values.index(chosen) if _is_ordered(values) else chosen
        return chosen

    decide(choose, narrowed)
    return words


def _key(name: str, values: tuple[Choice, ...]) -> str:
    """The parameter's name; it lists a subset's values, as Optuna allows one range per name."""
    return name if values == SPACE[name] else f"{name} of {', '.join(map(str, values))}"


def _is_ordered(values: tuple[Choice, ...]) -> bool:
    return not any(isinstance(value, bool | str) for value in values)
