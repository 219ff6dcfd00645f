"""CUDA graph engine: launches the whole forward pass at once, always with one batch size.

A batch that is not full is padded: another shape may select other kernels, which changes bits. The
last slots of a batch may be computed in another order than the others (on an H100 the last 4 of 64,
for large networks in half precision): only slots that give the same bits as the first are used.
"""

import copy
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference.sample import latents
from models.networks.gan import Generator
from models.networks.pixel_range import to_uint8

SLOTS = 64  # images that each forward pass computes
PROBE_LATENTS = 3  # latents put into all slots to find equal ones; also loads all CUDA libraries


class CudaGraphEngine:
    """One generator, captured as a CUDA graph."""

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
            self.batch = min(
                self._equal_slots(z) for z in latents(range(PROBE_LATENTS), self.config.z_dim)
            )
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate memory during the capture.
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

    def _equal_slots(self, z: Tensor) -> int:
        """How many slots, from the first on, compute the same bits for one z."""
        self._z.copy_(z.expand_as(self._z))
        return equal_prefix_length(self._network(self._z, self._labels))


def equal_prefix_length(images: Tensor) -> int:
    """How many leading images of (N, C, R, R) are equal to the first."""
    equal = (images == images[:1]).flatten(1).all(1)
    return int(equal.cumprod(0).sum())
