"""python -m benchmarks.encode: encoding time, file size and PSNR of image formats and settings.

Encodes the shipped models' images as clients get them: with XMP, at the default quality. The
settings in use are listed before the alternatives; PSNR shows if a smaller file is a worse one.
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

import models
from benchmarks.measure import interleaved, machine
from models.checkpoint import load_model
from models.imaging import encoding, png
from models.imaging.encoding import (
    ImageFormat,
    Provenance,
    encode,
    xmp_packet,
)
from models.imaging.pixels import Pixels, resize, to_image
from models.inference.sample import even_label, sample

Encoder = Callable[[Sequence[Pixels]], list[bytes]]

PRETRAINED = Path(models.__file__).parent / "pretrained"


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
    """Measure all encoders on these pictures; returns a table."""
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
    """A function that measures the processor time of one image, in microseconds."""

    def run() -> float:
        started = time.process_time()
        encoder(pictures)
        return 1e6 * (time.process_time() - started) / len(pictures)

    return run


def _psnr(files: Sequence[bytes], pictures: Sequence[Pixels]) -> str:
    """PSNR in dB, from the mean squared error over all pictures."""
    errors = []
    for file, pixels in zip(files, pictures, strict=True):
        with Image.open(io.BytesIO(file)) as image:
            decoded = np.asarray(image.convert("L" if pixels.shape[2] == 1 else "RGB"))
        errors.append(((decoded.reshape(pixels.shape) - pixels.astype(float)) ** 2).mean())
    return f"{10 * np.log10(255**2 / np.mean(errors)):.1f}" if any(errors) else "lossless"


def _encoders() -> dict[str, Encoder]:
    """Encoders by name, the settings in use first."""
    webp = (encoding.WEBP_METHOD, *({0, 2, 4} - {encoding.WEBP_METHOD}))
    avif = (encoding.AVIF_SPEED, *({8, 10} - {encoding.AVIF_SPEED}))
    isal = (png.LEVEL, *({0, 1, 2, 3} - {png.LEVEL}))
    return {
        **{f"png, ISA-L level {level}": _ours("png", png, LEVEL=level) for level in isal},
        **{f"png, Pillow level {level}": _pillow_png(level) for level in (1, 6)},
        "jpeg": _ours("jpeg", encoding),
        **{
            f"webp, method {method}": _ours("webp", encoding, WEBP_METHOD=method) for method in webp
        },
        **{f"avif, speed {speed}": _ours("avif", encoding, AVIF_SPEED=speed) for speed in avif},
    }


def _ours(image_format: ImageFormat, module: ModuleType, **constants: int) -> Encoder:
    """`encode`, with some constants of a module replaced."""

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
