"""Image files made for the tests."""

import io
import itertools
import random
import zipfile
from collections.abc import Mapping

import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()  # also what writes HEIC

RED, BLUE = (200, 30, 30), (30, 30, 200)


def saved(image: Image.Image, image_format: str = "png", **options: object) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def many_exif_segments() -> bytes:
    """A JPEG whose metadata takes minutes to read: Pillow joins Exif segments one by one."""
    photo = saved(two_tone(), "jpeg")
    head, filler = b"\xff\xe1" + (2000).to_bytes(2, "big") + b"Exif\0\0", random.Random(0)
    segments = (head + filler.randbytes(92) + bytes(1900) for _ in range(30_000))
    return photo[:2] + b"".join(segments) + photo[2:]


def two_tone(mode: str = "RGB", size: tuple[int, int] = (32, 16)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def noise(seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    """A picture of random pixels, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def zipped(members: Mapping[str, bytes]) -> io.BytesIO:
    """A zip with these files, by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    file.seek(0)
    return file


def shop(**images: int) -> dict[str, bytes]:
    """Files of an upload with so many different PNG photos in each category."""
    seeds = itertools.count()
    return {
        f"{category}/{index}.png": saved(noise(next(seeds)))
        for category, count in images.items()
        for index in range(count)
    }
