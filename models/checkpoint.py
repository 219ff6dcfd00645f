"""Checkpoints: networks serialised as safetensors with a JSON header, never pickle.

There are three kinds: a *model* is the EMA generator alone, which is served; a *state* is all that
a training needs to resume; a *classifier* is the CNN of a data set. Each stores the configuration
that built its networks, and loading fails when the tensors do not fit it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Adam

from models.networks.classifier import Classifier, ClassifierConfig
from models.networks.gan import GanConfig, Generator
from models.networks.layers import best_device
from models.training.remedies import Remedies
from models.training.state import TrainState
from models.training.train_config import TrainConfig

MODEL_FORMAT = "vitrine-generator-2"
CLASSIFIER_FORMAT = "vitrine-classifier-1"
STATE_FORMAT = "vitrine-train-state-3"
MAX_HEADER_BYTES = 1_000_000
COUNTERS: dict[str, type[int] | type[float]] = {
    "step": int, "images": int, "recoveries": int, "seconds": float
}  # fmt: skip
DTYPES = {"F32", "BF16", "F16", "I64"}

Config = TypeVar("Config")


class CheckpointError(ValueError):
    """The bytes are not a checkpoint of ours, or do not fit their own configuration."""


@dataclass(frozen=True)
class Model:
    """A generator ready to sample: eval mode, with the names of its categories."""

    generator: Generator
    categories: tuple[str, ...]


def save_model(generator: Generator, categories: tuple[str, ...]) -> bytes:
    """Serialise a generator for serving, in half the bytes of its float32 weights.

    Weights are rounded to float16, which changes images by at most one level of 255. Vectors
    (biases, norms) stay float32: they are small, and a variance may exceed float16's range.
    """
    header: dict[str, object] = {"config": asdict(generator.config), "categories": categories}
    tensors = _tensors(generator)
    rounded = {name: t.half() if t.dim() > 1 else t for name, t in tensors.items()}
    return pack(rounded, MODEL_FORMAT, header)


def load_model(data: bytes, device: torch.device | None = None) -> Model:
    """Rebuild a generator.

    Raises:
        CheckpointError: the bytes are not a valid model checkpoint.
    """
    tensors, header = unpack(data, MODEL_FORMAT)
    generator = Generator(_build(GanConfig, header["config"]))
    _fill(generator, tensors)
    categories = header["categories"]
    if not isinstance(categories, list) or len(categories) != generator.config.categories:
        raise CheckpointError("the category names do not fit the generator")
    generator = generator.eval().requires_grad_(False).to(device or best_device())
    return Model(generator, tuple(str(name) for name in categories))


def save_classifier(network: Classifier) -> bytes:
    """Serialise the CNN of a data set."""
    return pack(_tensors(network), CLASSIFIER_FORMAT, {"config": asdict(network.config)})


def load_classifier(data: bytes, device: torch.device | None = None) -> Classifier:
    """Rebuild a CNN, in eval mode.

    Raises:
        CheckpointError: the bytes are not a valid classifier checkpoint.
    """
    tensors, header = unpack(data, CLASSIFIER_FORMAT)
    network = Classifier(_build(ClassifierConfig, header["config"]))
    _fill(network, tensors)
    return network.eval().to(device or best_device())


def save_state(state: TrainState) -> bytes:
    """Serialise everything that `train` needs to resume."""
    tensors: dict[str, Tensor] = {"accuracy": state.accuracy.cpu()}
    for name, network in state.networks.items():
        tensors |= {f"{name}.{key}": value for key, value in _tensors(network).items()}
    for name, optimizer in state.optimizers.items():
        tensors |= {f"{name}.{key}": value for key, value in _moments(optimizer).items()}
    header: dict[str, object] = {
        "gan": asdict(state.generator.config),
        "train": asdict(state.config),
        "counters": {name: getattr(state, name) for name in COUNTERS},
    }
    return pack(tensors, STATE_FORMAT, header)


def load_state(data: bytes, device: torch.device | None = None) -> TrainState:
    """Rebuild a training state.

    Raises:
        CheckpointError: the bytes are not a valid training state.
    """
    tensors, header = unpack(data, STATE_FORMAT)
    state = TrainState(
        _build(GanConfig, header["gan"]), _train_config(header["train"]), device or best_device()
    )
    for name, network in state.networks.items():
        _fill(network, _with_prefix(tensors, name))
    for name, optimizer in state.optimizers.items():
        _fill_moments(optimizer, _with_prefix(tensors, name))
    try:
        counters = _object(header["counters"])
        for name, kind in COUNTERS.items():
            setattr(state, name, kind(counters[name]))
        state.accuracy = tensors["accuracy"].to(state.device)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("the counters are damaged") from error
    return state


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


def _moments(optimizer: Adam) -> dict[str, Tensor]:
    """Adam's state, empty before the first step, keyed `{parameter index}.{name}`."""
    per_parameter: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.cpu().contiguous()
        for index, values in per_parameter.items()
        for name, value in values.items()
    }


def _fill_moments(optimizer: Adam, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        if value.dim() > 0:
            # Fused Adam reads weights and moments in memory order, so a moment must have the
            # memory layout of its weight (channels_last where the weight has it).
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        raise CheckpointError("the optimiser's state does not fit its network") from error


def _with_prefix(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _fill(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError("the tensors do not fit the configuration") from error


def _train_config(value: object) -> TrainConfig:
    fields = _object(value)
    betas = fields.get("betas")
    return _build(
        TrainConfig,
        {
            **fields,
            "betas": tuple(betas) if isinstance(betas, list) else betas,
            "remedies": _build(Remedies, fields.get("remedies")),
        },
    )


def _build(kind: Callable[..., Config], fields: object) -> Config:
    try:
        return kind(**_object(fields))
    except (TypeError, ValueError) as error:
        raise CheckpointError("the configuration cannot be built") from error


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointError("a part of the header is not an object")
    return value


def pack(tensors: dict[str, Tensor], kind: str, header: dict[str, object]) -> bytes:
    """A safetensors file of this kind; equal contents give equal bytes."""
    # One metadata entry: safetensors writes several in random order, and equal states must give
    # equal bytes.
    return save(tensors, metadata={"vitrine": json.dumps({"format": kind, **header})})


def unpack(data: bytes, kind: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and our header; checks the header's size and the dtypes before parsing tensors.

    Raises:
        CheckpointError: the bytes are not a file of this kind.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise CheckpointError("not a safetensors file, or its header is too long")
    try:
        layout = json.loads(data[8 : 8 + length])
        header = json.loads(layout.pop("__metadata__")["vitrine"])
        if header["format"] != kind:
            raise CheckpointError(f"not a {kind} file")
        if any(entry["dtype"] not in DTYPES for entry in layout.values()):
            raise CheckpointError("a tensor has a type that no checkpoint of ours has")
        return load(data), header
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError("the file is damaged") from error
