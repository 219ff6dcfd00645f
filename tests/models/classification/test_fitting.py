"""Fitting on photos as they are and shrunk, never on those that are held out."""

import io
import time
import zipfile
from dataclasses import replace

import pytest
import torch

from models.classification.fitting import Photos, calibration_error, fit_photo_classifier
from models.classification.photo_classifier import PhotoClassifier, save_photo_classifier
from models.progress import run
from tests.models.pictures import noise, saved


def test_held_out_photos_are_named_sharp_and_shrunk(classifier: PhotoClassifier) -> None:
    report = classifier.report
    assert (report.photos, report.held_out_photos, report.resolution) == (56, 8, 32)
    assert report.accuracy is not None
    assert report.accuracy_small is not None
    assert report.calibration_error is not None
    assert report.accuracy >= 7 / 8
    assert report.accuracy_small >= 6 / 8
    assert report.calibration_error < 0.3
    assert report.seconds > 0


def test_held_out_photos_do_not_change_the_fit(sample: Photos, classifier: PhotoClassifier) -> None:
    replaced = io.BytesIO()
    with zipfile.ZipFile(sample.source) as photos, zipfile.ZipFile(replaced, "w") as others:
        for name, is_held_out in zip(photos.namelist(), sample.held_out.tolist(), strict=True):
            content = saved(noise(0), "jpeg") if is_held_out else photos.read(name)
            others.writestr(name, content)
    changed = run(fit_photo_classifier(replace(sample, source=replaced), 32))
    assert torch.equal(changed.probe.weight, classifier.probe.weight)
    assert changed.probe.temperature == classifier.probe.temperature
    assert changed.report.accuracy != classifier.report.accuracy


def test_a_fit_is_repeatable(sample: Photos, classifier: PhotoClassifier) -> None:
    again = run(fit_photo_classifier(sample, 32))
    again = replace(again, report=classifier.report)
    assert save_photo_classifier(again) == save_photo_classifier(classifier)


def test_short_time_leaves_out_photos_but_no_category(
    sample: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.classification.fitting.FEWEST_PHOTOS", 9)
    began = time.monotonic()
    hurried = run(fit_photo_classifier(sample, 32, seconds=0.01))
    assert hurried.report.photos == 9
    assert hurried.report.held_out_photos == 1
    # A category that was left out would have no weight towards it.
    assert hurried.probe.bias.isfinite().all()
    assert time.monotonic() - began < 30


def test_without_held_out_photos_there_is_no_accuracy(sample: Photos) -> None:
    alone = replace(sample, held_out=torch.zeros_like(sample.held_out))
    report = run(fit_photo_classifier(alone, 32)).report
    assert (report.photos, report.held_out_photos) == (64, 0)
    assert report.accuracy is report.accuracy_small is report.calibration_error is None


def test_progress_grows(sample: Photos) -> None:
    shares = list(fit_photo_classifier(sample, 32))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] < 1
    assert len(shares) > 20  # between any two, a job can be cancelled


def test_calibration_error_of_known_cases() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    sure = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    assert calibration_error(sure, labels) == 0
    assert calibration_error(sure, 1 - labels) == 1
    three_of_four = torch.tensor([0, 0, 0, 1])
    likely = torch.tensor([[0.75, 0.25]]).repeat(4, 1)
    assert calibration_error(likely, three_of_four) == pytest.approx(0)
    assert calibration_error(likely, labels) == pytest.approx(0.25)
