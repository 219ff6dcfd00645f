"""Generators as CUDA graphs: the whole forward pass launched at once, always of one batch size.

A batch that is not full is filled up: another shape may choose other kernels, and with them other
bits. The last slots of a batch may be computed in another order than the others (on an H100 the
last 4 of 64, for large networks in half precision): only those that are like the first are used.
"""

import copy
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.gan import Generator
from models.sample import latents, to_uint8

SLOTS = 64  # images that each forward pass computes
TRIED = 3  # latents in all slots, to find those that are alike; also opens all libraries


class CudaGraphEngine:
    """One generator, captured."""

    name = "cuda graph"

    @torch.inference_mode()
    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32) -> None:
        self.config = generator.config
        device = generator.stem.weight.device
        self._lock = threading.Lock()
        network = copy.deepcopy(generator).to(dtype)
        # The shape overload of Module.to is missing from torch's annotations.
        layout = {"memory_format": torch.channels_last}
        self._network = network.to(**layout)  # type: ignore[call-overload]
        self._z = torch.zeros(SLOTS, self.config.z_dim, device=device, dtype=dtype)
        self._labels = torch.zeros(SLOTS, dtype=torch.int64, device=device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.batch = min(self._alike(z) for z in latents(range(TRIED), self.config.z_dim))
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            images = self._network(self._z, self._labels)
            self._images = to_uint8(images).permute(0, 2, 3, 1).contiguous()

    @classmethod
    def in_half(cls, generator: Generator) -> "CudaGraphEngine":
        """In float16, whose ten bits are enough for 255 levels."""
        engine = cls(generator, torch.float16)
        engine.name = "cuda graph in half precision"
        return engine

    @torch.inference_mode()
    def __call__(self, z: Tensor, labels: Tensor) -> NDArray[np.uint8]:
        count = len(labels)
        with self._lock:
            self._z[:count].copy_(z)
            self._labels[:count].copy_(labels)
            self._graph.replay()
            return self._images[:count].cpu().numpy()

    def _alike(self, z: Tensor) -> int:
        """How many slots, from the first on, compute the same bits of one z."""
        self._z.copy_(z.expand_as(self._z))
        return alike(self._network(self._z, self._labels))


def alike(images: Tensor) -> int:
    """How many of the images (N, C, R, R), from the first on, are equal to it."""
    equal = (images == images[:1]).flatten(1).all(1)
    return int(equal.cumprod(0).sum())
