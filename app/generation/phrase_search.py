"""Search for many phrases in a text at once, in time that is linear in the text's length.

Algorithm: "Efficient string matching: an aid to bibliographic search" - Aho and Corasick, 1975
(https://doi.org/10.1145/360825.360855), over words in place of letters.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a phrase means; of two that are found, the one with the lower rank is taken."""

    rank: tuple[int, ...]
    category: str


class _End(NamedTuple):
    """A phrase that ends at a node of the trie; the least one is the best."""

    rank: tuple[int, ...]
    shortness: int  # minus the words
    category: str


class PhraseSearch:
    """An automaton that finds the phrases that it is made of.

    A node of its trie stands for the words on the way to it. The longest suffix of these that leads
    from the root to a node again is the node's `suffix`: where the search goes on if the next word
    has no branch.
    """

    def __init__(self, phrases: Mapping[tuple[str, ...], Meaning]) -> None:
        self._branches: list[dict[str, int]] = [{}]
        self._ends: list[_End | None] = [None]
        self._suffixes = [0]
        for words, meaning in phrases.items():
            self._ends[self._grow(words)] = _End(meaning.rank, -len(words), meaning.category)
        self._link()

    def best(self, text: Iterable[str]) -> str | None:
        """The category of the phrase with the lowest rank; then the first; then the longest."""
        node, found = 0, None
        for place, word in enumerate(text):
            node = self._next(node, word)
            end = self._ends[node]
            if end is not None:
                match = (end.rank, place + end.shortness, end.shortness, end.category)
                found = match if found is None else min(found, match)
        return None if found is None else found[-1]

    def _grow(self, words: Sequence[str]) -> int:
        """The node of a phrase."""
        node = 0
        for word in words:
            branches = self._branches[node]
            if word not in branches:
                branches[word] = len(self._branches)
                self._branches.append({})
                self._ends.append(None)
                self._suffixes.append(0)
            node = branches[word]
        return node

    def _link(self) -> None:
        """Set the suffixes, the nodes of short phrases first, and let ends be seen along them."""
        nodes = deque(self._branches[0].values())
        while nodes:
            node = nodes.popleft()
            suffix = self._suffixes[node]
            ends = [end for end in (self._ends[node], self._ends[suffix]) if end is not None]
            self._ends[node] = min(ends, default=None)
            for word, branch in self._branches[node].items():
                self._suffixes[branch] = self._next(suffix, word)
                nodes.append(branch)

    def _next(self, node: int, word: str) -> int:
        while node and word not in self._branches[node]:
            node = self._suffixes[node]
        return self._branches[node].get(word, 0)
