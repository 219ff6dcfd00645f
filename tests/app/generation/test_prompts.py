"""Categories and colours that are recognised in prompts."""

import json
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from app.generation.prompts import PRODUCT_WORDS, Vocabulary, find_color
from models.data.category_names import fold

FASHION = ("Ankle boot", "Bag", "Dress", "Shirt", "T-shirt/top", "Trouser", "Sneaker")
LANGUAGES = {"en", "de", "fr", "es", "it", "pt", "nl", "zh", "ja", "ko"}


def find_category(
    prompt: str, categories: Sequence[str], synonyms: dict[str, list[str]] | None = None
) -> str | None:
    return Vocabulary(categories, synonyms or {}).find_category(prompt)


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("a sneaker", "Sneaker"),
        ("SNEAKERS, studio light!", "Sneaker"),
        ("two dresses", "Dress"),
        ("white t-shirt on a hanger", "T-shirt/top"),
        ("a T shirt", "T-shirt/top"),
        ("a summer top", "T-shirt/top"),
        ("a shirt", "Shirt"),
        ("leather boots", "Ankle boot"),
        ("a bag beside an ankle boot", "Ankle boot"),
        ("a bag and a dress", "Bag"),
        ("a dress and a bag", "Dress"),
        ("trousers_for_men", "Trouser"),
        ("a car", None),
        ("addressing an envelope", None),
        ("", None),
    ],
)
def test_the_category_is_the_one_that_is_named(prompt: str, category: str | None) -> None:
    assert find_category(prompt, FASHION) == category


@pytest.mark.parametrize(
    ("prompt", "color"),
    [
        ("a red dress", "#FF0000"),
        ("a navy-blue dress", "#000080"),
        ("a dress on a white background", None),
        ("a black dress on a white background", "#000000"),
        ("a linen dress", None),
        ("a reddish dress", None),
    ],
)
def test_a_color_word_is_a_color(prompt: str, color: str | None) -> None:
    assert find_color(prompt) == color


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("ein rotes KLEID", "Dress"),
        ("deux robes d'été", "Dress"),
        ("unos pantalones", "Trouser"),
        ("borsa di pelle", "Bag"),
        ("Stiefeletten", "Ankle boot"),
        ("一件红色的连衣裙", "Dress"),
        ("赤いワンピースの写真", "Dress"),
        ("빨간 드레스를 그려줘", "Dress"),
        ("白いTシャツ", "T-shirt/top"),
        ("un vélo", None),
    ],
)
def test_built_in_words_of_several_languages_name_a_category(
    prompt: str, category: str | None
) -> None:
    assert find_category(prompt, FASHION) == category


@pytest.mark.parametrize(
    ("prompt", "categories", "category"),
    [
        ("a dress", ("Kleid",), "Kleid"),
        ("une jupe bleue", ("Röcke", "Blusen"), "Röcke"),
        ("ROBES DE SOIRÉE", ("robe de soiree",), "robe de soiree"),
        ("a hoody and hoodies", ("Hoodie",), "Hoodie"),
        ("a short dress", ("Shorts", "Dress"), "Dress"),
        ("手提包和帽子", ("帽子", "手提包"), "手提包"),
        ("一条连衣裙", ("裙", "连衣裙"), "连衣裙"),
        ("पीली साड़ी", ("साड़ी",), "साड़ी"),
    ],
)
def test_categories_may_have_names_of_any_language(
    prompt: str, categories: tuple[str, ...], category: str
) -> None:
    assert find_category(prompt, categories) == category


def test_a_synonym_of_the_model_names_its_category() -> None:
    synonyms = {"dress": ["Dirndl", "little black number"], "Not there": ["bag"]}
    assert find_category("zwei Dirndl", FASHION, synonyms) == "Dress"
    assert find_category("a bag and a Little Black Number", FASHION, synonyms) == "Dress"
    assert find_category("a bag", FASHION, synonyms) == "Bag"


def test_the_models_own_words_come_before_built_in_ones() -> None:
    assert find_category("a robe beside a bag", FASHION) == "Bag"
    assert find_category("a robe", (*FASHION, "Bathrobe"), {"Bathrobe": ["robe"]}) == "Bathrobe"


def test_every_built_in_word_means_one_kind_of_product() -> None:
    groups = json.loads(PRODUCT_WORDS.read_text(encoding="utf-8"))
    words = Counter(
        word
        for languages in groups.values()
        for word in {fold(word) for phrases in languages.values() for word in phrases}
    )
    assert [word for word, count in words.items() if count > 1] == []
    assert all(set(languages) <= LANGUAGES and "en" in languages for languages in groups.values())
    for name, languages in groups.items():
        for word in (word for phrases in languages.values() for word in phrases):
            assert find_category(word, [languages["en"][0], "another thing"]) is not None, name


@pytest.fixture(scope="module")
def large() -> Vocabulary:
    """A thousand categories with twenty synonyms each, many of which begin alike."""
    categories = [f"item{number} of item item" for number in range(1000)]
    synonyms = {
        name: [f"{'item ' * 8}{name[:7]} {number}" for number in range(10)]
        + [f"{'连' * 40}{name[:7]} {number}" for number in range(10)]
        for name in categories
    }
    return Vocabulary(categories, synonyms)


@pytest.mark.parametrize(
    "prompt",
    [
        *("item " * 6400, "a " * 16_000, "item1 of item2 " * 2100, "item item other " * 2000),
        *("连" * 32_000, "\ufdfa" * 32_000, "\u0301\u0323" * 16_000, "é " * 16_000),
    ],
)
def test_a_long_prompt_and_many_synonyms_take_no_time(prompt: str, large: Vocabulary) -> None:
    began = time.thread_time()
    large.find_category(prompt)
    find_color(prompt)
    assert time.thread_time() - began < 0.5  # about 30 ms where nothing else runs
