"""Category names that are the same but for case, accents and width."""

import time

import pytest

from models.data.category_names import fold, index_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dress", "DRESS"),
        ("Müslin-Röcke", "muslin-rocke"),
        ("Robe d'été", "ROBE D'ETE\u0301"),
        ("Straße", "STRASSE"),
        ("kapı", "KAPI"),
        ("İpek", "ipek"),
        ("Łódka", "lodka"),
        ("Sløjfe", "slojfe"),
        ("Ёлка", "елка"),
        ("Ｄｒｅｓｓ", "dress"),
        ("ﾄﾞﾚｽ", "ト\u3099レス"),
        ("드레스", "\u1103\u1173\u1105\u1166\u1109\u1173"),
        ("لباس\u200cها", "لباسها"),
    ],
)
def test_names_that_differ_in_case_accents_and_width_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other) == fold(fold(one))


@pytest.mark.parametrize(
    ("one", "other"), [("が", "か"), ("เสื้อ", "เสือ"), ("क़", "क"), ("a b", "ab")]
)
def test_marks_that_make_another_letter_are_kept(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_a_category_is_found_by_its_spelling_then_by_its_folded_one() -> None:
    categories = ("Dress", "dress", "Jupe à fleurs")
    names = ("Dress", "dress", "DRESS", "jupe a fleurs", "dres")
    assert [index_of(name, categories) for name in names] == [0, 1, 0, 2, None]


@pytest.mark.parametrize(
    "text", ["\u0301\u0323" * 16_000, "\u0591\u05b0" * 16_000, "\ufdfa" * 32_000, "é" * 32_000]
)
def test_a_long_text_is_folded_in_no_time(text: str) -> None:
    began = time.perf_counter()
    fold(text)
    assert time.perf_counter() - began < 0.2
