"""The tree of choices in Optuna's words, which know numbers, names, and no tree."""

import optuna

from models.search_space import EVERYTHING, SPACE, Choice, Narrowed, Point, decide


def suggest(asked: optuna.Trial, name: str, values: tuple[Choice, ...]) -> Choice:
    """Optuna's choice: by place where the values are numbers, so that it knows neighbours."""
    key = _key(name, values)
    if _is_ordered(values):
        return values[asked.suggest_int(key, 0, len(values) - 1)]
    return values[values.index(asked.suggest_categorical(key, values))]


def encoded(point: Point, narrowed: Narrowed = EVERYTHING) -> dict[str, Choice]:
    """The point in the words of `suggest`."""
    words: dict[str, Choice] = {}

    def choose(name: str, values: tuple[Choice, ...]) -> Choice:
        chosen = point[name]
        words[_key(name, values)] = values.index(chosen) if _is_ordered(values) else chosen
        return chosen

    decide(choose, narrowed)
    return words


def _key(name: str, values: tuple[Choice, ...]) -> str:
    """Optuna wants the same values wherever a name returns."""
    return name if values == SPACE[name] else f"{name} of {', '.join(map(str, values))}"


def _is_ordered(values: tuple[Choice, ...]) -> bool:
    return not any(isinstance(value, bool | str) for value in values)
