"""The panel: a slice of its exam on the sample photos, and its report of a generator."""

import io
from pathlib import Path

import pytest
import torch

import worker
from benchmarks.judges.degradations import STRENGTHS, damaged
from benchmarks.judges.exam import Exam
from benchmarks.judges.pairs import agreements, read_pairs
from models.data.archive import ArchiveLimits
from models.data.datasets import Dataset, import_archive, read_images
from models.evaluation.extractors import report_extractors
from models.evaluation.panel import Panel, View, build_reference, build_scale, noise_like
from models.evaluation.panel_report import PanelJudge
from models.networks.gan import GanConfig, Generator
from models.progress import run

SAMPLE = next((Path(worker.__file__).parent / "sample-data").glob("*.zip"))
PAIRS = Path(__file__).parents[3] / "benchmarks" / "judges" / "pairs.json"


def sample_photos() -> Dataset:
    """64 photos of four categories at 64 px."""
    canonical = io.BytesIO()
    report = import_archive(io.BytesIO(SAMPLE.read_bytes()), canonical, ArchiveLimits())
    images = read_images(canonical, 64, 3)
    names = tuple(category.name for category in report.categories)
    return Dataset.stack(images, names, report.images)


@pytest.fixture(scope="module")
def exam() -> Exam:
    """A third of the photos of each category to fit on, to compare with, and to damage."""
    photos = sample_photos()
    parts = [photos.select(torch.arange(start, 63, 3)) for start in range(3)]
    panel = Panel(report_extractors())
    seen, compared, examined = (run(panel.look(part.images, part.labels)) for part in parts)
    reference = build_reference(panel, seen, compared, len(photos.categories))
    return Exam(reference=reference, scale=run(build_scale(reference)), photos=examined)


@pytest.mark.parametrize("kind", STRENGTHS)
def test_the_strongest_damage_of_each_kind_lowers_the_score(exam: Exam, kind: str) -> None:
    found = damaged(exam.photos, exam.reference.training, kind, STRENGTHS[kind][-1])
    view = found if isinstance(found, View) else exam.look(found)
    before, after = (exam.judge(each)[1] for each in (exam.photos, view))
    assert after.score < before.score - 3, (before.aspects, after.aspects)


def test_noise_scores_next_to_nothing(exam: Exam) -> None:
    view = exam.look(noise_like(exam.photos.images, len(exam.photos.labels)))
    assert exam.judge(view)[1].score < 10


def test_a_report_names_its_judges_and_the_weakest_aspect(exam: Exam) -> None:
    generator = Generator(
        GanConfig(resolution=64, channels=3, categories=4, z_dim=8, generator_width=4)
    ).eval()
    held_out = exam.reference.held_out
    photos = Dataset(images=held_out.images, labels=held_out.labels, categories=tuple("abcd"))
    judge = PanelJudge(
        reference=exam.reference, scale=exam.scale, held_out=photos, seconds_per_look=0.1
    )
    report = run(judge.judge(generator))
    assert set(report.protocol["judges"]) == {"lite2", "u2netp"}  # type: ignore[arg-type] # a dict
    assert report.verdict.startswith("not good enough: ")
    assert report.score < 20
    # Its images show no product, so that there are no colours of products to compare.
    assert set(report.scores) == set(report.model) <= set(report.floor) == set(report.noise)


def test_the_panel_agrees_with_a_person() -> None:
    overall = agreements(read_pairs(PAIRS))[0]
    assert overall.name == "overall"
    assert overall.pairs >= 40
    assert overall.agreed >= 0.9 * overall.pairs
