"""Keyword matching of prompts: the product category and the colour that a prompt names."""

import re
from collections.abc import Sequence
from functools import lru_cache

from PIL import ImageColor

# The basic colour terms of English and some that shops use; others, as linen, are also fabrics.
COLORS = (
    *("black", "white", "grey", "gray", "red", "orange", "yellow", "green", "blue", "purple"),
    *("pink", "brown", "beige", "navy", "turquoise", "teal", "maroon", "khaki"),
)
PLURALS = (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("s", ""))
NOT_PLURAL = ("ss", "us")
MOST_REMEMBERED = 4096  # categories in the cache; those of a few models are looked for in turn


def find_category(prompt: str, categories: Sequence[str]) -> str | None:
    """The category that the prompt names, in full or by its last word; None if it names none.

    Among several, the one with the most words wins, then the one named first.
    """
    words = _words(prompt)
    text, known = f" {' '.join(words)} ", set(words)
    found: list[tuple[int, int, str]] = []
    for category in categories:
        for phrase in _phrases(category):
            if phrase[-1] in known:
                # The last word alone has the least weight: "boots" for "ankle boot".
                found.append((0, text.find(f" {phrase[-1]} "), category))
                place = text.find(f" {' '.join(phrase)} ")
                if place >= 0:
                    found.append((-len(phrase), place, category))
    return min(found)[2] if found else None


def find_color(prompt: str) -> str | None:
    """The first colour word as #RRGGBB; a colour before "background" is not the product's."""
    words = [*_words(prompt), ""]
    for word, following in zip(words, words[1:], strict=False):
        if word in COLORS and following != "background":
            red, green, blue = ImageColor.getrgb(word)[:3]
            return f"#{red:02X}{green:02X}{blue:02X}"
    return None


@lru_cache(MOST_REMEMBERED)
def _phrases(category: str) -> tuple[list[str], ...]:
    """The words of each name of a category; names are separated by slashes."""
    return tuple(words for name in category.split("/") if (words := _words(name)))


def _words(text: str) -> list[str]:
    """Lower case, singular, without punctuation."""
    return [_singular(word) for word in re.findall(r"[^\W_]+", text.lower())]


def _singular(word: str) -> str:
    if not word.endswith(NOT_PLURAL):
        for plural, singular in PLURALS:
            if word.endswith(plural) and len(word) > len(plural) + 1:
                return word.removesuffix(plural) + singular
    return word
