"""python -m benchmarks.train_throughput: training images per second, against a usual DCGAN loop.

The other side is written after the training loop of pytorch/examples (dcgan/main.py): a DataLoader
with two workers that decodes every photo anew, float32, NCHW, plain Adam, binary cross-entropy with
separate passes over real and fake images, and the losses read (`.item()`) at each step. Both sides
train the same networks on the same photos. The time includes all decoding: in each epoch on the
other side, once in ours.
"""

import argparse
import io
import time
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.measure import interleaved, report
from models.data.archive import ArchiveLimits
from models.data.datasets import Dataset as PhotoSet
from models.data.datasets import DatasetReport, import_archive, read_images
from models.data.photos import decode, fit_square
from models.networks.gan import Discriminator, GanConfig, Generator
from models.networks.pixel_range import to_float
from models.training.state import initial_state
from models.training.train import train
from models.training.train_config import TrainConfig


class PhotoFolder(TorchDataset[tuple[Tensor, int]]):
    """What torchvision's ImageFolder does: open, decode, resize and normalise at each access."""

    def __init__(self, canonical: bytes, gan: GanConfig) -> None:
        with zipfile.ZipFile(io.BytesIO(canonical)) as archive:
            names = archive.namelist()
            self.files = [(archive.read(name), int(name.split("/")[0])) for name in names]
        self.gan = gan

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        content, label = self.files[index]
        pixels = fit_square(decode(content), self.gan.resolution, channels=self.gan.channels)
        return to_float(torch.from_numpy(pixels.transpose(2, 0, 1).copy())), label


def examples_style(canonical: bytes, gan: GanConfig, batch_size: int, steps: int) -> float:
    """Images per second of the usual loop over `steps` steps."""
    started = time.perf_counter()
    loader = DataLoader(
        PhotoFolder(canonical, gan), batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    generator, discriminator = Generator(gan), Discriminator(gan)
    betas = (0.5, 0.999)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=betas)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=betas)
    criterion = nn.BCEWithLogitsLoss()
    for real, labels in islice(_endless(loader), steps):
        ones, zeros = torch.ones(batch_size), torch.zeros(batch_size)
        discriminator.zero_grad()
        loss_real = criterion(discriminator(real, labels), ones)
        loss_real.backward()
        fake = generator(torch.randn(batch_size, gan.z_dim), labels)
        loss_fake = criterion(discriminator(fake.detach(), labels), zeros)
        loss_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        loss_g = criterion(discriminator(fake, labels), ones)
        loss_g.backward()
        optimizer_g.step()
        assert loss_real.item() + loss_fake.item() + loss_g.item() > 0
    return steps * batch_size / (time.perf_counter() - started)


def ours(canonical: bytes, gan: GanConfig, batch_size: int, steps: int, images: int) -> float:
    """Images per second of `models.training.train` over `steps` steps."""
    started = time.perf_counter()
    loaded = read_images(io.BytesIO(canonical), gan.resolution, gan.channels)
    photos = PhotoSet.stack(loaded, [str(i) for i in range(gan.categories)], images)
    state = initial_state(gan, TrainConfig(batch_size=batch_size))
    for _ in islice(train(state, photos), steps):
        pass
    assert state.step == steps
    return steps * batch_size / (time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="zip of photos")
    parser.add_argument("--resolution", type=int, choices=(28, 32, 64, 128), default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with options.archive.open("rb") as source:
        canonical, photos = _canonical(source)
    gan = GanConfig(
        family="dcgan",
        resolution=options.resolution,
        channels=1 if photos.grey else 3,
        categories=len(photos.categories),
        discriminator_norm="batch",
    )
    size = options.batch_size
    steps = options.epochs * (photos.images // size)
    runs = interleaved(
        {
            "ours": lambda: ours(canonical, gan, size, steps, photos.images),
            "pytorch/examples style": lambda: examples_style(canonical, gan, size, steps),
        },
        options.rounds,
    )
    title = f"Training at {gan.resolution} px, batch {size}, {photos.images} photos, {steps} steps"
    report(title, "images/s", runs)


def _canonical(source: IO[bytes]) -> tuple[bytes, DatasetReport]:
    target = io.BytesIO()
    imported = import_archive(source, target, ArchiveLimits())
    return target.getvalue(), imported


def _endless(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
