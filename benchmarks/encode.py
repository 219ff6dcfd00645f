"""python -m benchmarks.encode: what each format of a generated image costs, and its settings.

The shipped models' images, as a client gets them: with their XMP, at the default quality. Below the
settings in use stand those that were not chosen; PSNR tells whether a smaller file is a worse one.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from benchmarks.measure import interleaved, machine
from models import images, png
from models.checkpoint import load_model
from models.images import ImageFormat, Pixels, Provenance, encode, resize, to_image, xmp_packet
from models.sample import even_label, sample

Encoder = Callable[[Sequence[Pixels]], list[bytes]]

PRETRAINED = Path(images.__file__).parent / "pretrained"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table for each size of image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="of each size")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    grey, clothes = (_sampled(name, options.images) for name in ("fashion-mnist", "clothing"))
    larger = [resize(pixels, (128, 128)) for pixels in clothes]
    tables = (
        _measured("fashion-mnist, 32 px grey", grey, options.rounds),
        _measured("clothing, 64 px colour", clothes, options.rounds),
        _measured("clothing, scaled to 128 px", larger, options.rounds),
    )
    print(f"\nProcessor time of one image in one thread, medians of {options.rounds}; {machine()}")
    print("Of each format's settings the first is in use.")
    print("\n".join(tables))


def _sampled(name: str, number: int) -> list[Pixels]:
    model = load_model((PRETRAINED / name / "model.safetensors").read_bytes())
    labels = [even_label(seed, len(model.categories)) for seed in range(number)]
    return list(sample(model.generator, range(number), labels))


def _measured(title: str, pictures: Sequence[Pixels], rounds: int) -> str:
    """A table of all encoders on these pictures."""
    print(f"\n{title}")
    encoders = _encoders()
    runs = interleaved(
        {name: _timed(encoder, pictures) for name, encoder in encoders.items()}, rounds
    )
    lines = [f"{title:<30} {'us':>8}  {'(range)':<14} {'bytes':>7} {'PSNR, dB':>9}"]
    for name, encoder in encoders.items():
        files = encoder(pictures)
        spread = f"({min(runs[name]):.0f}-{max(runs[name]):.0f})"
        size = mean(len(file) for file in files)
        quality = _psnr(files, pictures)
        lines.append(
            f"  {name:<28} {median(runs[name]):8.0f}  {spread:<14} {size:7.0f} {quality:>9}"
        )
    return "\n".join(lines)


def _timed(encoder: Encoder, pictures: Sequence[Pixels]) -> Callable[[], float]:
    """A side that tells the microseconds of processor time of one image."""

    def run() -> float:
        started = time.process_time()
        encoder(pictures)
        return 1e6 * (time.process_time() - started) / len(pictures)

    return run


def _psnr(files: Sequence[bytes], pictures: Sequence[Pixels]) -> str:
    """Of the mean squared error of all pictures."""
    errors = []
    for file, pixels in zip(files, pictures, strict=True):
        with Image.open(io.BytesIO(file)) as image:
            decoded = np.asarray(image.convert("L" if pixels.shape[2] == 1 else "RGB"))
        errors.append(((decoded.reshape(pixels.shape) - pixels.astype(float)) ** 2).mean())
    return f"{10 * np.log10(255**2 / np.mean(errors)):.1f}" if any(errors) else "lossless"


def _encoders() -> dict[str, Encoder]:
    """By name, the settings in use first."""
    webp = (images.WEBP_METHOD, *({0, 2, 4} - {images.WEBP_METHOD}))
    avif = (images.AVIF_SPEED, *({8, 10} - {images.AVIF_SPEED}))
    isal = (png.LEVEL, *({0, 1, 2, 3} - {png.LEVEL}))
    return {
        **{f"png, ISA-L level {level}": _ours("png", png, LEVEL=level) for level in isal},
        **{f"png, Pillow level {level}": _pillow_png(level) for level in (1, 6)},
        "jpeg": _ours("jpeg", images),
        **{f"webp, method {method}": _ours("webp", images, WEBP_METHOD=method) for method in webp},
        **{f"avif, speed {speed}": _ours("avif", images, AVIF_SPEED=speed) for speed in avif},
    }


def _ours(image_format: ImageFormat, module: ModuleType, **constants: int) -> Encoder:
    """`encode`, with other constants in the place of a module's own."""

    def run(pictures: Sequence[Pixels]) -> list[bytes]:
        with patch.dict(vars(module), constants):
            return [
                encode(pixels, image_format, provenance=_provenance(seed))
                for seed, pixels in enumerate(pictures)
            ]

    return run


def _pillow_png(level: int) -> Encoder:
    def run(pictures: Sequence[Pixels]) -> list[bytes]:
        files = []
        for seed, pixels in enumerate(pictures):
            text, file = PngImagePlugin.PngInfo(), io.BytesIO()
            text.add_itxt("XML:com.adobe.xmp", xmp_packet(_provenance(seed)))
            to_image(pixels).save(file, "png", compress_level=level, pnginfo=text)
            files.append(file.getvalue())
        return files

    return run


def _provenance(seed: int) -> Provenance:
    return Provenance(model="clothing", version=1, seed=seed)


if __name__ == "__main__":
    main()
