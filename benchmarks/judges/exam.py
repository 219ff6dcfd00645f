"""Runs the exam: measures of degraded photos, and how well each measure ranks them.

Shapes: N images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.judges.degradations import STRENGTHS, damaged
from models.data.datasets import Dataset
from models.data.split import Holdout, split
from models.evaluation.panel import Panel, Reference, Scale, View, build_reference, build_scale
from models.evaluation.scores import Measures, Scores
from models.progress import run

EXAMINED = Holdout(0.15, 5000)  # of the training part: photos that take the generator's place


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Photos in three parts: to fit on, to compare with, and to damage."""

    reference: Reference
    scale: Scale
    photos: View  # as many as are held out, of the same categories

    def look(self, images: Tensor) -> View:
        """The view of images that show the held-out photos' categories."""
        return run(self.reference.panel.look(images, self.photos.labels))

    def judge(self, view: View) -> tuple[Measures, Scores]:
        """The measures of images, and their scores."""
        measures = self.reference.judge(view).measures
        return measures, self.scale.score(measures)


@dataclass(frozen=True)
class Row:
    """The scores of one kind of damage, from none to the strongest."""

    kind: str
    measures: list[Measures]
    scores: list[Scores]

    @property
    def falls_strictly(self) -> bool:
        """Whether each further damage lowers the overall score."""
        overall = [scores.score for scores in self.scores]
        return all(before > after for before, after in zip(overall, overall[1:], strict=False))

    def correlations(self) -> dict[str, float]:
        """Spearman's of each measure's score with the strength; -1: falls with every step.

        What could not be measured, such as the colour of products that no mask shows, counts as 0.
        """
        steps = range(len(self.scores))
        found = {
            name: [scores.measures.get(name, 0.0) for scores in self.scores]
            for name in self.scores[0].measures
        }
        return {
            name: float(spearmanr(steps, values).statistic)
            for name, values in found.items()
            if len({*values}) > 1
        }


def prepare(panel_of: Callable[[Dataset], Panel], training: Dataset, held_out: Dataset) -> Exam:
    """Split the training part again, and look at everything once."""
    fitted, others = split(training, EXAMINED)
    if others is None:
        raise ValueError("the archive has too few photos for an exam")
    panel = panel_of(fitted)
    seen = run(panel.look(fitted.images, fitted.labels))
    compared = run(panel.look(held_out.images, held_out.labels))
    reference = build_reference(panel, seen, compared, len(fitted.categories))
    photos = run(panel.look(*_matching(others, held_out.labels)))
    return Exam(reference=reference, scale=run(build_scale(reference)), photos=photos)


def examine(exam: Exam) -> Iterator[Row]:
    """All kinds of damage, one by one."""
    intact = exam.judge(exam.photos)
    for kind, strengths in STRENGTHS.items():
        results = [intact]
        for strength in strengths:
            found = damaged(exam.photos, exam.reference.training, kind, strength)
            view = found if isinstance(found, View) else exam.look(found)
            results.append(exam.judge(view))
        yield Row(kind, [m for m, _ in results], [s for _, s in results])


def _matching(photos: Dataset, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As many photos as there are `labels`, of these categories."""
    rows = torch.empty_like(labels)
    for label in labels.unique():
        same = torch.nonzero(photos.labels == label).flatten()
        wanted = labels == label
        rows[wanted] = same[torch.arange(int(wanted.sum())) % len(same)]
    return photos.images[rows], labels
