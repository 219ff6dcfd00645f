"""Generation of the images that an evaluation scores: one for each photo, of the same category.

Shapes: N images, C channels, R resolution in pixels.
"""

import time

import torch
from torch import Tensor

from models.data.datasets import Dataset
from models.inference.sample import sample_batch
from models.networks.gan import Generator
from models.progress import Steps, run

# Far above the seeds that users choose, so that no scored image was viewed before.
FIRST_SEED = 2**40
GENERATION_BATCH = 250  # images; a large generator takes seconds for them on a CPU
FEWEST_IMAGES = 64  # of an evaluation, however little time there is
WARM_UP, TIMED = 4, 32  # images, to measure the speed


def generate_steps(
    generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED
) -> Steps[Tensor]:
    """Generate one image (N, C, R, R) for each photo of `dataset`, of the same category."""
    labels, parts = dataset.labels, []
    for start in range(0, len(labels), GENERATION_BATCH):
        yield start / len(labels)
        chosen = labels[start : start + GENERATION_BATCH].tolist()
        first = first_seed + start
        parts.append(sample_batch(generator, range(first, first + len(chosen)), chosen))
    return torch.cat(parts)


def generate_matching(
    generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED
) -> Tensor:
    """`generate_steps`, run to its end."""
    return run(generate_steps(generator, dataset, first_seed))


def generation_speed(generator: Generator) -> float:
    """Images per second of `generate_steps` on this machine, measured with a few of them."""
    sample_batch(generator, range(WARM_UP), [0] * WARM_UP)
    began = time.perf_counter()
    sample_batch(generator, range(TIMED), [0] * TIMED)
    return TIMED / (time.perf_counter() - began)
