"""Scores: between noise and photos, by aspect; a failed aspect fails the whole."""

import pytest

from models.evaluation.scores import USABLE, score

FLOOR = {
    "fd_a": 9.0, "kid_a": 0.0, "precision_a": 0.8, "density_a": 0.9,
    "fd_b": 4.0, "kid_b": -0.001, "precision_b": 0.7, "density_b": 0.8,
    "recall_a": 0.8, "coverage_a": 0.9, "diversity_a": 1.0,
    "swd": 0.02, "color_product": 1.0, "color_background": 2.0,
    "category_accuracy": 0.9, "cas": 0.8, "authenticity_a": 0.6,
}  # fmt: skip
NOISE = {
    "fd_a": 169.0, "kid_a": 4.0, "precision_a": 0.0, "density_a": 0.0,
    "fd_b": 100.0, "kid_b": 1.0, "precision_b": 0.0, "density_b": 0.0,
    "recall_a": 0.0, "coverage_a": 0.0, "diversity_a": 0.0,
    "swd": 1.02, "color_product": 41.0, "color_background": 42.0,
    "category_accuracy": 0.1, "cas": 0.1, "authenticity_a": 0.0,
}  # fmt: skip


def test_photos_score_100_and_noise_almost_nothing() -> None:
    photos, noise = score(FLOOR, FLOOR, NOISE), score(NOISE, FLOOR, NOISE)
    assert photos.score == pytest.approx(100)
    assert set(photos.aspects.values()) == {100}
    assert photos.verdict == "good"
    assert noise.score == pytest.approx(0)
    assert noise.verdict.startswith("not good enough: ")


def test_squared_distances_are_compared_by_their_roots() -> None:
    found = score(FLOOR | {"fd_a": 64.0, "kid_a": 1.0}, FLOOR, NOISE)
    assert found.measures["fd_a"] == pytest.approx(50)  # 8 between 3 and 13
    assert found.measures["kid_a"] == pytest.approx(50)  # 1 between 0 and 2


def test_better_than_photos_is_no_better() -> None:
    found = score(FLOOR | {"density_a": 2.0, "category_accuracy": 1.0}, FLOOR, NOISE)
    assert found.score == pytest.approx(100)


def test_one_failed_aspect_is_not_made_up_for() -> None:
    collapsed = FLOOR | {"recall_a": 0.0, "coverage_a": 0.02, "diversity_a": 0.05}
    found = score(collapsed, FLOOR, NOISE)
    assert found.aspects["variety"] < 5
    assert found.score < USABLE
    assert "vary less than the photos" in found.verdict


@pytest.mark.parametrize(
    "failed",
    [("precision_a", "density_a", "fd_a", "kid_a"), ("swd",), ("category_accuracy", "cas")],
)
def test_a_model_that_fails_in_one_aspect_is_not_usable(failed: tuple[str, ...]) -> None:
    found = score(FLOOR | {name: NOISE[name] for name in failed}, FLOOR, NOISE)
    assert 50 < found.score < USABLE
    assert found.verdict.startswith("not good enough: ")


def test_failures_of_different_depth_hardly_differ() -> None:
    deep, less = ({**NOISE, "category_accuracy": x, "cas": x} for x in (0.1, 0.2))
    assert score(less, FLOOR, NOISE).score - score(deep, FLOOR, NOISE).score < 2


def test_the_verdict_names_the_weakest_aspect() -> None:
    half = {name: (FLOOR[name] + NOISE[name]) / 2 for name in FLOOR}
    found = score(half | {"swd": 0.9}, FLOOR, NOISE)
    assert found.verdict.startswith("not good enough: textures")
    assert found.verdict.endswith("train longer or add photos")
    usable = score(FLOOR | {"swd": 0.8, "color_product": 20.0}, FLOOR, NOISE)
    assert usable.verdict.startswith("usable: textures")


def test_an_alarm_tells_where_two_networks_disagree() -> None:
    assert score(FLOOR, FLOOR, NOISE).alarms == ()
    doubted = FLOOR | {"fd_b": 100.0, "kid_b": 1.0, "precision_b": 0.0, "density_b": 0.0}
    (alarm,) = score(doubted, FLOOR, NOISE).alarms
    assert alarm == "the judges disagree on fidelity: a 100, b 0"


def test_what_cannot_be_measured_is_left_out() -> None:
    without = {name: x for name, x in FLOOR.items() if not name.startswith("color")}
    assert "color" not in score(without, FLOOR, NOISE).aspects
    assert "color" not in score(FLOOR, without, NOISE).aspects
