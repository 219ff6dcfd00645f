"""python -m models.evaluate: judge a model on photos that it was not trained on.

    python -m models.evaluate --model model.safetensors --train train.zip --test test.zip

The extractor is fitted here, on the training photos alone; see `models.evaluation`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.checkpoint import load_model
from models.evaluation import Photos, evaluate, neighbours_of
from models.extractor import fit_extractor
from models.pretrain import load
from models.steps import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the numbers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--train", type=Path, required=True, help="zip it was trained on")
    parser.add_argument("--test", type=Path, required=True, help="zip it has never seen")
    parser.add_argument("--neighbours", type=Path, help="where to write the neighbour sheet, PNG")
    options = parser.parse_args(arguments)
    model = load_model(options.model.read_bytes())
    resolution = model.generator.config.resolution
    (train, _), (test, _) = load(options.train, resolution), load(options.test, resolution)
    if not model.categories == train.categories == test.categories:
        parser.error("the model and both zips must have the same categories")
    extractor = run(fit_extractor(train, len(test.labels)))
    photos = Photos(extractor=extractor, training=train, held_out=test)
    report = run(evaluate(model.generator, photos))
    if options.neighbours is not None:
        options.neighbours.write_bytes(neighbours_of(model.generator, photos))
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
