"""ONNX Runtime engine: the engine for CPUs, with little overhead for each layer.

Each call runs on its caller's thread, so parallelism comes from calls in several threads; dividing
one small image among cores costs more than it gains.
"""

import io
import os
import threading
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.gan import Generator
from models.networks.pixel_range import to_uint8

# Set before the import: else ONNX Runtime sends telemetry and stores an id for it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from onnxruntime import InferenceSession, SessionOptions

OPSET = 17


class OnnxEngine:
    """One generator as an ONNX Runtime session."""

    name = "onnxruntime"
    batch = 8  # larger batches gain nothing and delay their first image

    def __init__(self, generator: Generator) -> None:
        self.config = generator.config
        inputs = {
            "z": torch.zeros(2, generator.config.z_dim),
            "labels": torch.zeros(2, dtype=torch.int64),
        }
        self._session = open_session(exported(_Served(generator), inputs))

    def __call__(self, z: Tensor, labels: Tensor) -> NDArray[np.uint8]:
        inputs = {"z": z.numpy(), "labels": labels.numpy()}
        images: NDArray[np.uint8] = self._session.run(None, inputs)[0]
        return images


class _Served(nn.Module):
    """z and labels to images as served, uint8 (N, R, R, C)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return to_uint8(self.generator(z, labels)).permute(0, 2, 3, 1)


def open_session(model: bytes) -> InferenceSession:
    """A session that computes on its caller's thread."""
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])


_exporting = threading.Lock()  # the exporter keeps global state, as do filters of warnings


def exported(network: nn.Module, inputs: dict[str, Tensor], outputs: int = 1) -> bytes:
    """A network as an ONNX model, for any N; `inputs` are examples by name."""
    file = io.BytesIO()
    names = [f"output{index}" for index in range(outputs)]
    with _exporting, warnings.catch_warnings():
        # This exporter is deprecated in favour of one that needs onnxscript, and warns of sizes
        # that become constants, as they shall.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            file,  # type: ignore[arg-type] # this exporter takes files too
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in (*inputs, *names)},
        )
    return file.getvalue()
