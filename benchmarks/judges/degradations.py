"""Ten kinds of damage to real photos, each at five strengths, that every good judge must notice.

Shapes: N images, R resolution in pixels; all uint8 (N, 3, R, R).
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from models.evaluation.panel import View
from models.imaging.pixels import to_image, to_pixels

Damage = Callable[[Tensor, float], Tensor]

# Strengths at a resolution of 64 px, weak first.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "blur": (0.5, 0.8, 1.2, 1.8, 3.0),  # px, radius of the Gaussian
    "noise": (6, 12, 20, 35, 60),  # of 255, standard deviation
    "jpeg": (60, 35, 20, 10, 4),  # quality
    "color cast": (8, 16, 28, 44, 64),  # of 255, red up and blue down
    "contrast": (0.85, 0.7, 0.55, 0.4, 0.25),  # factor
    "checker": (4, 8, 14, 22, 34),  # of 255, amplitude of alternating pixels
    "shuffled patches": (0.05, 0.15, 0.3, 0.6, 1.0),  # share of the 8 px patches
    "wrong category": (0.1, 0.25, 0.45, 0.7, 1.0),  # share of the images
    "dropped modes": (0.5, 0.7, 0.82, 0.9, 0.97),  # share of the distinct images
    "copied photos": (0.1, 0.25, 0.45, 0.7, 1.0),  # share of the images, of the training photos
}


def damaged(photos: View, training: View, kind: str, strength: float) -> View | Tensor:
    """Pixels (N, 3, R, R) of damaged photos, or, if no pixel is new, their view."""
    if kind in DAMAGES:
        return DAMAGES[kind](photos.images, strength)
    if kind == "wrong category":
        return _mislabelled(photos, strength)
    if kind == "dropped modes":
        return _repeated(photos, strength)
    return _copied(photos, training, strength)


def _each(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    changed = [to_pixels(change(to_image(image.permute(1, 2, 0).numpy()))) for image in images]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).contiguous()


def _blur(images: Tensor, radius: float) -> Tensor:
    return _each(images, lambda image: image.filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(images: Tensor, quality: float) -> Tensor:
    def again(image: Image.Image) -> Image.Image:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=int(quality))
        return Image.open(data)

    return _each(images, again)


def _noise(images: Tensor, deviation: float) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return _clamped(images + torch.randn(images.shape, generator=random) * deviation)


def _color_cast(images: Tensor, shift: float) -> Tensor:
    return _clamped(images + torch.tensor([shift, 0.0, -shift])[:, None, None])


def _contrast(images: Tensor, factor: float) -> Tensor:
    values = images.float()
    return _clamped(values.mean((1, 2, 3), keepdim=True).lerp(values, factor))


def _checker(images: Tensor, amplitude: float) -> Tensor:
    places = torch.arange(images.shape[2])
    signs = 1 - 2 * ((places[:, None] + places) % 2)
    return _clamped(images + amplitude * signs)


def _shuffled_patches(images: Tensor, share: float) -> Tensor:
    random = np.random.default_rng(0)
    side, cells = images.shape[2] // 8, 8
    shuffled = images.clone()
    for image in shuffled:
        moved = random.permutation(cells**2)[: max(2, round(share * cells**2))]
        patches = image.unflatten(2, (cells, side)).unflatten(1, (cells, side))
        patches = patches.permute(1, 3, 0, 2, 4).flatten(0, 1)  # (cells^2, 3, side, side)
        patches[moved] = patches[np.roll(moved, 1)].clone()
        grid = patches.unflatten(0, (cells, cells)).permute(2, 0, 3, 1, 4)
        image.copy_(grid.reshape(image.shape))
    return shuffled


def _clamped(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


DAMAGES: dict[str, Damage] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "color cast": _color_cast,
    "contrast": _contrast,
    "checker": _checker,
    "shuffled patches": _shuffled_patches,
}


def _chosen(count: int, share: float) -> Tensor:
    """A random share of `count` indices; a larger share holds a smaller one."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[: round(share * count)]


def _mislabelled(photos: View, share: float) -> View:
    """Some photos change places with those of other categories; the labels stay."""
    rows = torch.arange(len(photos.labels))
    moved = _chosen(len(rows), share).sort().values  # in the order of the categories
    rows[moved] = moved.roll(len(moved) // 2)
    labels = photos.labels
    kept = photos.select(rows)
    return View(images=kept.images, labels=labels, features=kept.features, masks=kept.masks)


def _repeated(photos: View, dropped: float) -> View:
    """Each category is filled with repetitions of its first images."""
    rows = torch.arange(len(photos.labels))
    for label in photos.labels.unique():
        members = rows[photos.labels == label].clone()
        kept = members[: max(1, round((1 - dropped) * len(members)))]
        rows[photos.labels == label] = kept[torch.arange(len(members)) % len(kept)]
    return photos.select(rows)


def _copied(photos: View, training: View, share: float) -> View:
    """Some photos give way to training photos of their category."""
    copies = _chosen(len(photos.labels), share)
    features = {name: rows.clone() for name, rows in photos.features.items()}
    images = photos.images.clone()
    masks = None if photos.masks is None else photos.masks.clone()
    for index in copies.tolist():
        same = torch.nonzero(training.labels == photos.labels[index]).flatten()
        source = same[index % len(same)]
        images[index] = training.images[source]
        for name in features:
            features[name][index] = training.features[name][source]
        if masks is not None and training.masks is not None:
            masks[index] = training.masks[source]
    return View(images=images, labels=photos.labels, features=features, masks=masks)
