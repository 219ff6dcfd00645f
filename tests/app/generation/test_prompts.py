"""Categories and colours that are recognised in prompts."""

import time

import pytest

from app.generation.prompts import find_category, find_color

FASHION = ("Ankle boot", "Bag", "Dress", "Shirt", "T-shirt/top", "Trouser", "Sneaker")


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


@pytest.mark.parametrize("prompt", ["item " * 6400, "a " * 16_000, "item1 of item2 " * 2100])
def test_a_long_prompt_and_many_categories_take_no_time(prompt: str) -> None:
    categories = [f"item{number} of item item" for number in range(1000)]
    began = time.perf_counter()
    find_category(prompt, categories)
    find_color(prompt)
    assert time.perf_counter() - began < 0.2
