"""Generators as CUDA graphs: the whole forward pass launched at once, always of one batch size.

A batch that is not full is filled up: another shape may choose other kernels, and with them other
bits.
"""

import copy
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.gan import Generator
from models.sample import to_uint8

WARM_UPS = 3  # before the capture, in which no library may be opened


class CudaGraphEngine:
    """One generator, captured."""

    name = "cuda graph"
    batch = 64

    @torch.inference_mode()
    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32) -> None:
        device = generator.stem.weight.device
        self._lock = threading.Lock()
        network = copy.deepcopy(generator).to(dtype)
        # The shape overload of Module.to is missing from torch's annotations.
        layout = {"memory_format": torch.channels_last}
        self._network = network.to(**layout)  # type: ignore[call-overload]
        self._z = torch.zeros(self.batch, generator.config.z_dim, device=device)
        self._labels = torch.zeros(self.batch, dtype=torch.int64, device=device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._forward(dtype)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._images = self._forward(dtype)

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

    def _forward(self, dtype: torch.dtype) -> Tensor:
        images = self._network(self._z.to(dtype), self._labels)
        return to_uint8(images).permute(0, 2, 3, 1).contiguous()
