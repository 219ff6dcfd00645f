"""Image options: names of categories."""

import time

import pytest
from pydantic import ValidationError

from worker.schemas.requests import GenerateJob


def test_a_category_is_in_the_form_of_the_names_of_folders() -> None:
    job = GenerateJob(categories={"Ju\u0308pe": 1})
    assert job.categories == {"Jüpe": 1}


@pytest.mark.parametrize("key", ["category", "categories"])
def test_an_overlong_category_is_refused_in_no_time(key: str) -> None:
    name = "\u0301\u0323" * 16_000  # normalising it takes seconds
    fields = {"category": {"n": 1, "category": name}, "categories": {"categories": {name: 1}}}
    began = time.thread_time()
    with pytest.raises(ValidationError, match="at most 200"):
        GenerateJob.model_validate(fields[key])
    assert time.thread_time() - began < 0.1
