"""Category names: compared without regard to case, accents and the width of letters."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

ACCENTS = range(0x300, 0x370)  # combining marks of Latin, Greek and Cyrillic letters
JOINERS = "\u200c\u200d"  # invisible; they shape Persian and Indian words
# Letters that Unicode does not decompose. The dotless i is here because Turkish writes its capital
# as I; the sharp s is not, because Unicode's case folding makes ss of it.
PLAIN = {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe"}
MOST_MARKS = 30  # in a row, as in Unicode's Stream-Safe Text Format
MOST_LETTERS = 3  # that one becomes, as in Korean; there are also ligatures of whole sentences
MOST_REMEMBERED = 64  # lists of categories

_FOLDED = str.maketrans({**PLAIN, **dict.fromkeys(map(chr, ACCENTS)), **dict.fromkeys(JOINERS)})


def fold(text: str) -> str:
    """The text without case and accents, NFC; in time that is linear in its length."""
    if text.isascii():
        return text.lower()
    compatible = unicodedata.normalize("NFKD", _with_few_marks(text))[: MOST_LETTERS * len(text)]
    decomposed = unicodedata.normalize("NFKD", compatible.casefold())
    return unicodedata.normalize("NFC", decomposed.translate(_FOLDED))


def index_of(name: str, categories: Sequence[str]) -> int | None:
    """The category's index: that of the same spelling, else of the first with the same folded one.

    None if there is no such category.
    """
    if name in categories:
        return categories.index(name)
    return _folded(tuple(categories)).get(fold(name))


@lru_cache(MOST_REMEMBERED)
def _folded(categories: tuple[str, ...]) -> dict[str, int]:
    """The index of the first category with each folded spelling."""
    return {fold(name): index for index, name in reversed(list(enumerate(categories)))}


def _with_few_marks(text: str) -> str:
    """The text with overlong runs of combining marks cut: sorting one takes quadratic time."""
    marks = re.escape("".join(c for c in set(text) if unicodedata.combining(c)))
    return re.sub(f"([{marks}]{{{MOST_MARKS}}})[{marks}]+", r"\1", text) if marks else text
