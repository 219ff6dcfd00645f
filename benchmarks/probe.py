"""python -m benchmarks.probe: the photo classifier on photos that it was not fitted on.

Fits the probe on all photos of one archive, on one core, and names those of another: as they are,
and shrunk to the side of generated images. A probe that is fitted on photos as they are alone is
measured beside it.
"""

import argparse
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import machine
from models.classification.fitting import Looker, Views, calibration_error
from models.data.archive import ArchiveLimits
from models.data.canonical_archive import import_archive
from models.evaluation.linear_probe import LinearProbe, fit_probe_steps
from models.progress import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="zip, a folder per category")
    parser.add_argument("--test", type=Path, required=True, help="zip with the same folders")
    parser.add_argument("--resolution", type=int, default=64, help="of generated images, px")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    training, features_s = _seen(options.training, options.resolution)
    test, _ = _seen(options.test, options.resolution)
    count = len(training.labels)
    print(f"{count} photos to fit on, {len(test.labels)} to test on; {machine()}")
    print(f"features of {count} photos, each in two sizes: {features_s:.0f} CPU seconds")
    _report("fitted on photos as they are", training.sharp, training, test)
    both = torch.cat([training.sharp, training.small])
    _report(f"fitted on them and shrunk to {options.resolution} px", both, training, test)


def _seen(archive: Path, resolution: int) -> tuple[Views, float]:
    """What the backbone sees in all photos, and the CPU seconds of decoding and looking."""
    with archive.open("rb") as source, tempfile.TemporaryFile() as canonical:
        report = import_archive(source, canonical, ArchiveLimits())
        with zipfile.ZipFile(canonical) as photos:
            looker = Looker(photos, resolution)
            began = time.process_time()
            views = run(looker.look(torch.arange(report.images)))
            return views, time.process_time() - began


def _report(title: str, features: Tensor, training: Views, test: Views) -> None:
    copies = len(features) // len(training.labels)
    labels, photos = training.labels.repeat(copies), torch.arange(len(training.labels))
    categories = int(training.labels.max()) + 1
    began = time.process_time()
    steps = fit_probe_steps(features, labels, categories, photos=photos.repeat(copies))
    probe = run(steps)
    print(f"{title}: {time.process_time() - began:.0f} CPU seconds to fit")
    for name, seen in (("as they are", test.sharp), ("shrunk", test.small)):
        print(f"  test photos {name:<12} {_measured(probe, seen, test.labels)}")


def _measured(probe: LinearProbe, features: Tensor, labels: Tensor) -> str:
    error = calibration_error(probe.probabilities(features), labels)
    return f"accuracy {probe.accuracy(features, labels):.3f}, calibration error {error:.3f}"


if __name__ == "__main__":
    main()
