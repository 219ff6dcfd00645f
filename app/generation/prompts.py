"""Keyword matching of prompts: the product category and the colour that a prompt names."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageColor

from app.generation.phrase_search import Meaning, PhraseSearch
from models.data.category_names import fold, index_of

# The basic colour terms of English and some that shops use; others, as linen, are also fabrics.
COLORS = (
    *("black", "white", "grey", "gray", "red", "orange", "yellow", "green", "blue", "purple"),
    *("pink", "brown", "beige", "navy", "turquoise", "teal", "maroon", "khaki"),
)
PLURALS = (
    *(("ies", "y"), ("ie", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")),
    ("s", ""),
)
NOT_PLURAL = ("ss", "us")
# Their singulars mean something else: "a short dress", "a glass table".
ALWAYS_PLURAL = ("shorts", "glasses", "tights", "briefs", "slacks", "flats")
# Letters of scripts without spaces (Thai to Khmer, Japanese, Chinese) or with endings on the word
# (Korean); each is looked for as a word of its own.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3"
TOKEN = re.compile(rf"[{UNSPACED}][\u3099\u309a]?|[^\s{UNSPACED}]+")
PRODUCT_WORDS = Path(__file__).parent / "product_words.json"

Phrase = tuple[str, ...]


class Vocabulary:
    """What the categories of a model may be called in a prompt."""

    def __init__(self, categories: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> None:
        phrases: dict[Phrase, Meaning] = {}
        for rank, category, words in _named(categories, synonyms):
            phrases.setdefault(_tokens(words), Meaning((-len(words), rank), category))
        # The last word alone has the least weight: "boots" for "ankle boot".
        for category in categories:
            for words in _names(category):
                phrases.setdefault(_tokens(words[-1:]), Meaning((0, 0), category))
        self._search = PhraseSearch(phrases)

    def find_category(self, prompt: str) -> str | None:
        """The category that the prompt names; None if it names none.

        Among several, the one with the most words wins, then the model's own words before built-in
        ones, then the one named first.
        """
        return self._search.best(_tokens(_words(prompt)))


def find_color(prompt: str) -> str | None:
    """The first colour word as #RRGGBB; a colour before "background" is not the product's."""
    words = [*_words(prompt), ""]
    for word, following in zip(words, words[1:], strict=False):
        if word in COLORS and following != "background":
            red, green, blue = ImageColor.getrgb(word)[:3]
            return f"#{red:02X}{green:02X}{blue:02X}"
    return None


def _named(
    categories: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, str, list[str]]]:
    """Rank, category and words of each phrase; of equal phrases the first one counts."""
    for category in categories:
        yield from ((0, category, words) for words in _names(category))
    for name, phrases in synonyms.items():
        index = index_of(name, categories)
        if index is not None:  # else another version has the category
            yield from (
                (0, categories[index], words) for phrase in phrases for words in _names(phrase)
            )
    groups = _product_words()
    for category in categories:
        for words in _names(category):
            yield from ((1, category, phrase) for phrase in groups.get(tuple(words), ()))


@lru_cache(1)
def _product_words() -> dict[Phrase, list[list[str]]]:
    """The built-in words by each of them: those that mean the same kind of product."""
    groups = json.loads(PRODUCT_WORDS.read_text(encoding="utf-8"))
    found: dict[Phrase, list[list[str]]] = {}
    for languages in groups.values():
        phrases = [_words(phrase) for words in languages.values() for phrase in words]
        found |= {tuple(phrase): phrases for phrase in phrases}
    return found


def _names(text: str) -> Iterator[list[str]]:
    """The words of each name in the name of a category, or in a synonym: slashes are between."""
    return (words for name in text.split("/") if (words := _words(name)))


def _words(text: str) -> list[str]:
    """The text's words: without case, accents and punctuation, and without an English plural."""
    folded = fold(text)
    separators = {ord(c): " " for c in set(folded) if not _is_letter(c)}
    return [_singular(word) for word in folded.translate(separators).split()]


def _is_letter(character: str) -> bool:
    """Whether it is a letter, a figure, or a mark that belongs to one."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _tokens(words: Sequence[str]) -> Phrase:
    """What a search compares: words, and single letters of scripts without spaces."""
    return tuple(TOKEN.findall(" ".join(words)))


def _singular(word: str) -> str:
    """A spelling that an English word and its plural share."""
    if not word.endswith(NOT_PLURAL) and word not in ALWAYS_PLURAL:
        for plural, singular in PLURALS:
            if word.endswith(plural) and len(word) > len(plural) + 1:
                return word.removesuffix(plural) + singular
    return word
