"""How a generator is computed where it serves: fast, and to the same bits in any company.

An engine turns latents into uint8 images, each a function of its own latent and label alone. The
fastest kind that the device has is checked against the network before it is used: within one level
of 255 of it, and equal to the last bit whether an image is computed alone or among others. Where
that does not hold, the network itself computes one image at a time: in a batch, its convolutions
choose other blockings.

Shapes: N images, Z latent, R resolution in pixels, C channels.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.engine_cuda import CudaGraphEngine
from models.engine_onnx import OnnxEngine
from models.gan import GanConfig, Generator
from models.images import Pixels
from models.sample import latents, one_by_one

logger = logging.getLogger(__name__)

CHECK_SEED = 2**44  # no scored or searched image is near
CHECKED = 3  # images
TOLERANCE = 1  # levels of 255


class Engine(Protocol):
    """A generator's fast path; any number of threads may call it."""

    name: str
    config: GanConfig
    batch: int  # images at once that pay; a call takes no more

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
    """The fastest engine that computes what an eval-mode generator does, on its device."""
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
    """Whether an engine's images are the network's, and its bits the same in any company."""
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
