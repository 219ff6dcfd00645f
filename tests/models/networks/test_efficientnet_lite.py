"""EfficientNet-Lite: its size, TensorFlow's padding, feature maps and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.networks.efficientnet_lite import (
    LITE0,
    LITE1,
    LITE2,
    EfficientNetLite,
    EfficientNetLiteConfig,
    SameConv,
    same_padding,
    scaled,
)


@pytest.mark.parametrize(
    ("config", "published"), [(LITE0, 4_652_008), (LITE1, 5_416_680), (LITE2, 6_092_072)]
)
def test_it_has_as_many_parameters_as_published(
    config: EfficientNetLiteConfig, published: int
) -> None:
    network = EfficientNetLite(config)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    # A batch norm has two numbers for each map; folded, the bias alone remains.
    folded = sum(conv.out_channels for conv in convolutions)
    assert sum(p.numel() for p in network.parameters()) + folded == published


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(224, 3, 2, (0, 1)), (56, 5, 2, (1, 2)), (65, 5, 2, (2, 2)), (33, 3, 2, (1, 1))],
)
def test_padding_is_tensorflows(
    side: int, kernel: int, stride: int, padding: tuple[int, int]
) -> None:
    assert same_padding(side, kernel, stride) == padding


@pytest.mark.parametrize("side", [8, 9])
def test_a_strided_convolution_begins_at_the_first_pixel_where_the_side_is_even(side: int) -> None:
    conv = SameConv(1, 1, kernel=3, stride=2)
    image = torch.rand(1, 1, side, side)
    padded = F.pad(image, (0, 1, 0, 1) if side == 8 else (1, 1, 1, 1))
    torch.testing.assert_close(conv(image), F.conv2d(padded, conv.weight, conv.bias, stride=2))


def test_pixels_are_scaled_as_in_the_training() -> None:
    pixels = torch.tensor([0.0, 127.0, 255.0])
    torch.testing.assert_close(
        scaled((pixels - 127.5) / 127.5), torch.tensor([-127.0, 0, 128]) / 128
    )


@pytest.mark.parametrize("resolution", [64, 96])
def test_taps_are_feature_maps_of_four_sides(resolution: int) -> None:
    taps = EfficientNetLite(LITE0).taps(torch.rand(2, 3, resolution, resolution))
    assert [tap.shape[1] for tap in taps] == [24, 40, 112, 320]
    assert [tap.shape[2] for tap in taps] == [resolution // side for side in (4, 8, 16, 32)]


def test_features_and_logits_depend_on_the_image() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite(LITE0).eval()
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    features = network.features(images)
    assert features.shape == (2, 1280)
    assert (features >= 0).all()
    torch.testing.assert_close(network(images), network.classifier(features))
    features[0].sum().backward()
    assert images.grad is not None
    assert images.grad[0].abs().sum() > 0  # as a discriminator's generator needs
    assert images.grad[1].abs().sum() == 0
