"""python -m models.evaluate: evaluate a model on photos that it was not trained on.

    python -m models.evaluate --model model.safetensors --train train.zip --test test.zip

The judges are those of a model's card; see `models.evaluation.panel`. The CNN that judges grey
images is fitted here, on the training photos alone. `--card card.json` puts the report into a model
card, in place of the one that it has. `--inception` adds the FID in InceptionV3's features, with
weights from a local file; see `models.evaluation.inception`.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from models.checkpoint import load_model
from models.evaluation.extractors import report_extractors
from models.evaluation.generation import generate_matching
from models.evaluation.inception import inception_features, load_inception
from models.evaluation.metrics import (
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
)
from models.evaluation.panel import Panel
from models.evaluation.panel_report import PanelJudge, open_judge
from models.networks.gan import Generator
from models.pretrain import judge_of_grey, load
from models.progress import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate the model and print the report as JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--train", type=Path, required=True, help="zip it was trained on")
    parser.add_argument("--test", type=Path, required=True, help="zip it has never seen")
    parser.add_argument("--card", type=Path, help="model card that takes the report")
    parser.add_argument("--inception", type=Path, help="InceptionV3's weights, for the FID as well")
    parser.add_argument("--neighbours", type=Path, help="where to write the neighbour sheet, PNG")
    options = parser.parse_args(arguments)
    model = load_model(options.model.read_bytes())
    resolution = model.generator.config.resolution
    (train, _), (test, _) = load(options.train, resolution), load(options.test, resolution)
    if not model.categories == train.categories == test.categories:
        parser.error("the model and both zips must have the same categories")
    cnn = judge_of_grey(None, train, len(test.labels))
    judge = run(open_judge(Panel(report_extractors(cnn)), train, test))
    judged, sheet = run(judge.evaluate(model.generator))
    report = asdict(judged)
    if options.inception is not None:
        report["inception"] = measure_by_inception(
            options.inception.read_bytes(), model.generator, judge
        )
    if options.neighbours is not None:
        options.neighbours.write_bytes(sheet)
    if options.card is not None:
        card = json.loads(options.card.read_text())
        card["metrics"]["evaluation"] = report
        options.card.write_text(json.dumps(card, indent=2) + "\n")
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


def measure_by_inception(
    weights: bytes, generator: Generator, judge: PanelJudge
) -> dict[str, object]:
    """FID, FID at infinity and KID of the model, and of as many training photos (the floor)."""
    network = load_inception(weights)
    real = inception_features(network, judge.held_out.images)
    fake = inception_features(network, generate_matching(generator, judge.held_out))
    train = inception_features(network, judge.reference.training_sample().images)
    return {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "model": _fid(real, fake),
        "floor": _fid(real, train),
    }


def _fid(real: Tensor, fake: Tensor) -> dict[str, object]:
    enough = min(len(real), len(fake)) > real.shape[1] + 1
    return {
        "images": len(fake),
        "fid": frechet_distance(real, fake) if enough else None,
        "fid_infinity": frechet_distance_at_infinity(real, fake) if enough else None,
        "kid": asdict(kernel_distance(real, fake)),
    }


if __name__ == "__main__":
    main()
