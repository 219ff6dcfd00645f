"""Backbones: they say of photos what the original networks say, and load only undamaged."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.backbones.__main__ import read_photos
from models.imaging.pixels import Pixels
from models.inference import backbones
from models.inference.backbones import (
    FOLDER,
    LITES,
    Backbone,
    BackboneError,
    BackboneName,
    LiteName,
    identity,
    load_efficientnet,
    load_u2net,
    open_backbone,
    squeezed,
)
from models.networks.pixel_range import to_float

PHOTOS = Path(__file__).parents[1] / "photos"
REFERENCES = load_file(PHOTOS / "references.safetensors")
NAMES: tuple[BackboneName, ...] = (*LITES, "u2net-p")
# What rounding large weights to float16 leaves; the U2-Net-p has none so large. The largest errors
# of probabilities are 0.0003, 0.0005 and 0.00104.
PROBABILITIES = 0.0011
MASKS = 0.0001
FEATURES = 0.002  # of their norm

# Classes of ImageNet that name a photo, by the beginning of its file name.
CLASSES = {
    "dress": {689, 885},  # overskirt, velvet
    "hat": {439, 452, 515, 793, 808},  # bearskin, bonnet, cowboy hat, shower cap, sombrero
    "longsleeve": {610, 841},  # jersey, sweatshirt
    "outwear": {841, 869},  # sweatshirt, trench coat
    "pants": {608},  # jean
    "shirt": {841},
    "shoes": {502, 514, 630, 770, 774},  # clog, cowboy boot, loafer, running shoe, sandal
    "shorts": {842},  # swimming trunks
    "skirt": {655},  # miniskirt
    "t-shirt": {610},
}


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    return read_photos(PHOTOS)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_the_original(name: BackboneName, photos: list[Pixels]) -> None:
    features = open_backbone(name)(photos)
    wanted = REFERENCES[f"{name}.features"]
    assert wanted.shape == (20, 32)
    found = features[:, :: features.shape[1] // 32]
    assert ((found - wanted).norm(dim=1) / wanted.norm(dim=1)).max() < FEATURES


@pytest.mark.parametrize("name", LITES)
def test_probabilities_are_those_of_the_original(name: LiteName, photos: list[Pixels]) -> None:
    found = open_backbone(name, "logits")(photos).softmax(1)
    found = found.gather(1, REFERENCES[f"{name}.classes"])
    assert (found - REFERENCES[f"{name}.probabilities"]).abs().max() < PROBABILITIES


def test_masks_are_those_of_the_original(photos: list[Pixels]) -> None:
    masks = open_backbone("u2net-p", "masks")(photos)
    found = masks[:, :, ::32, ::32]
    assert (found - REFERENCES["u2net-p.masks"]).abs().max() < MASKS
    assert masks.amax((1, 2, 3)).min() > 0.9
    assert masks[..., :8, :8].mean() < 0.1  # few products reach a corner


@pytest.mark.parametrize("name", LITES)
def test_the_likeliest_classes_name_the_product(name: LiteName, photos: list[Pixels]) -> None:
    top = open_backbone(name, "logits")(photos).topk(5).indices.tolist()
    for file, classes in zip(sorted(PHOTOS.glob("*.jpg")), top, strict=True):
        assert CLASSES[file.stem[:-2]] & set(classes), file.stem


@pytest.mark.parametrize("name", NAMES)
def test_torch_computes_the_same(name: BackboneName, photos: list[Pixels]) -> None:
    network = load_u2net() if name == "u2net-p" else load_efficientnet(name)
    backbone = open_backbone(name, device=torch.device("cpu"))
    pixels = torch.cat([squeezed(photo, backbone.resolution) for photo in photos[:2]])
    features = network.features(to_float(pixels.permute(0, 3, 1, 2)))
    torch.testing.assert_close(backbone(photos[:2]), features, rtol=1e-4, atol=1e-4)
    assert not features.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_computes_the_same(name: BackboneName, photos: list[Pixels]) -> None:
    by_cpu = open_backbone(name, device=torch.device("cpu"))(photos)
    by_gpu = open_backbone(name, device=torch.device("cuda"))(photos)
    torch.testing.assert_close(by_gpu, by_cpu, rtol=1e-3, atol=1e-3)


def test_the_bits_of_an_image_depend_on_no_other_image_or_thread(photos: list[Pixels]) -> None:
    backbone = open_backbone("efficientnet-lite0", device=torch.device("cpu"))
    together = backbone(photos[:6], threads=3)
    assert torch.equal(together[4:5], backbone(photos[4:5]))


def test_images_of_equal_sizes_may_come_as_one_array_and_grey(photos: list[Pixels]) -> None:
    backbone = open_backbone("efficientnet-lite0")
    grey = np.stack([squeezed(photo, 64)[0, :, :, :1].numpy() for photo in photos[:2]])
    assert grey.shape == (2, 64, 64, 1)
    assert torch.equal(backbone(grey), backbone(list(grey.repeat(3, axis=3))))


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[::2] = 255
    middle = squeezed(stripes, 224)[0, 20:-20]
    assert middle.float().sub(127.5).abs().max() < 16


def test_a_backbone_is_opened_once() -> None:
    assert open_backbone("efficientnet-lite0") is open_backbone("efficientnet-lite0")


@pytest.mark.parametrize(
    ("name", "output"), [("u2net-p", "logits"), ("efficientnet-lite0", "masks")]
)
def test_an_output_that_a_backbone_lacks_is_refused(
    name: BackboneName, output: backbones.Output
) -> None:
    with pytest.raises(ValueError, match=f"{name} has no {output}"):
        open_backbone(name, output)


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER / "u2net-p", tmp_path / "u2net-p")
    file = tmp_path / "u2net-p" / "model.safetensors"
    weights = bytearray(file.read_bytes())
    weights[-1] ^= 1
    file.write_bytes(weights)
    monkeypatch.setattr(backbones, "FOLDER", tmp_path)
    with pytest.raises(BackboneError, match="u2net-p"):
        load_u2net()


@pytest.mark.parametrize("name", NAMES)
def test_it_ships_with_card_licence_and_notice(name: BackboneName) -> None:
    card = json.loads((FOLDER / name / "card.json").read_text())
    assert identity(name).weights_sha256 == card["weights_sha256"]
    assert card["license"] == "Apache-2.0"
    assert "Apache License" in (FOLDER / name / "LICENSE").read_text()
    notice = (FOLDER.parents[2] / "NOTICE").read_text()
    assert name in notice
    for holder in card["copyright"].split("; "):
        assert holder in " ".join(notice.split())


def test_the_means_of_feature_maps_are_the_features(photos: list[Pixels]) -> None:
    maps = open_backbone("efficientnet-lite0", "feature_maps", torch.device("cpu"))(photos[:2])
    assert maps.shape == (2, 1280, 7, 7)
    features = open_backbone("efficientnet-lite0", device=torch.device("cpu"))(photos[:2])
    torch.testing.assert_close(maps.mean((2, 3)), features, atol=1e-5, rtol=1e-5)


def test_threads_that_open_backbones_at_once_do_not_disturb_each_other() -> None:
    def opened(resolution: int) -> Backbone:
        return open_backbone("efficientnet-lite0", "features", torch.device("cpu"), resolution)

    sides = [64, 65, 66, 67, 64, 65, 66, 67]  # no other test opens these
    with ThreadPoolExecutor(len(sides)) as threads:
        found = list(threads.map(opened, sides))
    assert [each.resolution for each in found] == sides
    assert found[:4] == found[4:]
