"""Inference engine: computes a generator fast, with bits that do not depend on the batch.

An engine turns latents into uint8 images, each a function of its own latent and label alone. The
fastest kind of the device is checked before it is used: its images must be within one level of 255
of the network's, and equal to the last bit whether computed alone or in a batch. If it fails, the
network itself computes one image at a time, since its convolutions use other blockings in a batch.

Shapes: N images, Z latent, R resolution in pixels, C channels.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.imaging.pixels import Pixels
from models.inference.engine_cuda import CudaGraphEngine
from models.inference.engine_onnx import OnnxEngine
from models.inference.sample import latents, one_by_one
from models.networks.gan import GanConfig, Generator

logger = logging.getLogger(__name__)

CHECK_SEED = 2**44  # far from the seeds of evaluation and search
CHECKED = 3  # images
TOLERANCE = 1  # levels of 255


class Engine(Protocol):
    """A generator prepared for inference; thread-safe."""

    name: str
    config: GanConfig
    batch: int  # most images in a call; larger batches gain nothing

    def __call__(self, z: Tensor, labels: Tensor) -> Pixels:
        """Images (N, R, R, C) of float32 z (N, Z) and int64 labels (N,), both on the CPU."""


class NetworkEngine:
    """The network itself, one image at a time."""

    name = "torch"
    batch = 1

    def __init__(self, generator: Generator) -> None:
        self.config = generator.config
        self._generator = generator

    def __call__(self, z: Tensor, labels: Tensor) -> Pixels:
        return one_by_one(self._generator, z, labels)


def open_engine(generator: Generator) -> Engine:
    """The fastest engine whose images match an eval-mode generator's, on its device."""
    network = NetworkEngine(generator)
    kinds: Sequence[Callable[[Generator], Engine]] = (OnnxEngine,)
    if generator.stem.weight.device.type == "cuda":
        kinds = (CudaGraphEngine.in_half, CudaGraphEngine)
    for kind in kinds:
        engine = kind(generator)
        if agrees(engine, network):
            return engine
        logger.warning("%s computes other images than the network; it is not used", engine.name)
    return network


def agrees(engine: Engine, network: Engine) -> bool:
    """Whether an engine's images match the network's and do not depend on the batch."""
    count = max(engine.batch, CHECKED)
    z = latents(range(CHECK_SEED, CHECK_SEED + count), engine.config.z_dim)
    labels = torch.zeros(count, dtype=torch.int64)
    wanted = network(z[:CHECKED], labels[:CHECKED]).astype(np.int16)
    alone = [engine(z[i : i + 1], labels[i : i + 1])[0] for i in range(CHECKED)]
    if np.abs(wanted - np.stack(alone)).max() > TOLERANCE:
        return False
    # At the end of a full batch, in the other order.
    full = engine(z.flip(0)[-engine.batch :], labels[-engine.batch :])
    return all(np.array_equal(full[-1 - i], alone[i]) for i in range(min(CHECKED, engine.batch)))
