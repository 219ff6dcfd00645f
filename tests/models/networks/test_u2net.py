"""U2-Net-p: its size, masks and encoder."""

import torch

from models.networks.u2net import ConvReLU, U2NetP, scaled


def test_it_has_as_many_parameters_as_published() -> None:
    network = U2NetP()
    # A batch norm adds two numbers for each map; folded, it adds none.
    folded = sum(m.conv.out_channels for m in network.modules() if isinstance(m, ConvReLU))
    assert sum(p.numel() for p in network.parameters()) + 2 * folded == 1_131_181


def test_a_mask_has_the_side_of_its_image() -> None:
    masks = U2NetP()(torch.rand(2, 3, 64, 64))
    assert masks.shape == (2, 1, 64, 64)
    assert ((masks >= 0) & (masks <= 1)).all()


def test_features_are_the_means_of_six_stages() -> None:
    network = U2NetP().eval()
    images = torch.rand(2, 3, 64, 64)
    stages = network.encode(images)
    assert [stage.shape[1:] for stage in stages] == [
        (64, side, side) for side in (64, 32, 16, 8, 4, 2)
    ]
    features = network.features(images)
    assert features.shape == (2, 384)
    torch.testing.assert_close(features[:, 64:128], stages[1].mean((2, 3)))


def test_pixels_are_scaled_by_imagenets_mean_and_deviation() -> None:
    white = scaled(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))
