"""Images of a registered model as files of a job: one each, all in a zip, a manifest, a sheet.

What an earlier attempt has stored is taken as it is: an image depends on its seed alone.
"""

import hashlib
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass

import torch
from PIL import Image

from models.checkpoint import Model, load_model
from models.engine import open_engine
from models.images import Enhancement, Pixels, Provenance, contact_sheet, encode, to_pixels
from models.ingest import map_ahead
from models.rendering import Rendering, render
from models.sample import even_label, latents
from models.steps import Steps
from worker.artifacts import JobFiles
from worker.claims import Claim
from worker.image_options import ImageOptions
from worker.jobs import JobProgress
from worker.model_versions import ModelCard
from worker.queue import JobQueue
from worker.registry import Registry
from worker.requests import GenerateJob
from worker.watch import Watch

MANIFEST = "generated.jsonl"  # a line for each image
SIGN_EVERY_S = 0.5
COLUMNS = 8  # of the contact sheet
MOST_ROWS = 50
TILE = (64, 128)  # smallest and largest side in the sheet, px


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make: image i has seed + i and category labels[i]."""

    seed: int
    labels: Sequence[int]
    truncation: float
    rendering: Rendering


@dataclass(frozen=True, kw_only=True)
class Made:
    """One image, as a line of the manifest tells of it."""

    file: str
    seed: int
    category: str
    sha256: str
    width: int
    height: int


def run_generation(claim: Claim, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Make the images of a generate job.

    Raises:
        JobCancelled: a client asked for it.
        JobInterrupted: `stop_requested` said so; what is stored is not made again.
        ModelNotFound: the version has been deleted.
        ValueError: it has no such category.
    """
    job = claim.record.request
    assert isinstance(job, GenerateJob)
    assert job.model is not None  # the API has resolved it
    card = Registry(jobs.ledger.storage).resolve(job.model)
    watch = Watch(claim, stop_requested)
    began = time.monotonic()
    for done in make_files(claim, card, order_of(job, card)):
        if watch.is_due:
            eta_s = round((time.monotonic() - began) * (1 - done) / done)
            step, percent = int(done * job.images), round(100 * done, 2)
            progress = JobProgress(step=step, total=job.images, percent=percent, eta_s=eta_s)
            watch.show("generating", progress, {})
    claim.succeed({"model": card.name, "version": card.version, "generated": job.images})


def order_of(job: GenerateJob, card: ModelCard) -> Order:
    """What a job wants of a version.

    Raises:
        ValueError: the version has no such category.
    """
    assert job.seed is not None  # the API has drawn it
    return Order(
        seed=job.seed,
        labels=labels_of(job.seed, job.wanted, card.categories),
        truncation=job.truncation,
        rendering=rendering_of(job),
    )


def labels_of(seed: int, wanted: Mapping[str, int] | int, categories: Sequence[str]) -> list[int]:
    """The category of each image, as an index: so many of each, or so many of all in turn.

    Raises:
        ValueError: there is no such category.
    """
    if isinstance(wanted, int):
        return [even_label(seed + i, len(categories)) for i in range(wanted)]
    for name in wanted:
        if name not in categories:
            raise ValueError(f"categories: {name!r} is none; known are {', '.join(categories)}")
    return [label for name in wanted for label in [categories.index(name)] * wanted[name]]


def rendering_of(options: ImageOptions) -> Rendering:
    """How a client wants the images."""
    compression = options.output_compression
    return Rendering(
        enhancement=Enhancement(**vars(options.enhance)),
        side=options.side,
        image_format=options.output_format,
        compression=Rendering.compression if compression is None else compression,
    )


def make_files(claim: Claim, card: ModelCard, order: Order) -> Steps[None]:
    """Store every image, then what holds or shows them all; yields the done share."""
    files = JobFiles(claim.ledger.storage, claim.record.id)
    model = load_model(Registry(claim.ledger.storage).weights(card))
    sheet = Sheet(model, order)
    lines: list[str] = []
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w") as archive:  # stored: images are packed already
            for made, content in _images(claim, files, model, card, order):
                archive.writestr(zipfile.ZipInfo(made.file), content)  # dated 1980
                sheet.add(order.labels[len(lines)], content)
                lines.append(json.dumps(asdict(made)) + "\n")
                yield len(lines) / (len(order.labels) + 1)
            manifest = "".join(lines).encode()
            archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
        packed.seek(0)
        # Gigabytes take a while, in which the job must show that it lives.
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(claim.store, "generated.zip", packed)
            while not wait([storing], SIGN_EVERY_S).done:
                yield len(lines) / (len(lines) + 1)
            storing.result()
    claim.store(MANIFEST, manifest)
    claim.store("generated.png", sheet.encoded())


class Sheet:
    """The first images of each category, as they are stored."""

    def __init__(self, model: Model, order: Order) -> None:
        self._categories = model.categories
        wanted = order.rendering.side or model.generator.config.resolution
        self._tile = min(max(wanted, TILE[0]), TILE[1])
        self._rows: dict[int, list[Pixels]] = {}

    def add(self, label: int, content: bytes) -> None:
        """Show an image, where there is a place for it."""
        if label not in self._rows and len(self._rows) == MOST_ROWS:
            return
        row = self._rows.setdefault(label, [])
        if len(row) < COLUMNS:
            row.append(to_pixels(Image.open(io.BytesIO(content))))

    def encoded(self) -> bytes:
        """PNG, a labelled row for each category."""
        shown = sorted(self._rows)
        rows = [self._rows[label] for label in shown]
        names = [self._categories[label] for label in shown]
        return encode(contact_sheet(rows, names, tile=self._tile), "png")


def _images(
    claim: Claim, files: JobFiles, model: Model, card: ModelCard, order: Order
) -> Iterator[tuple[Made, bytes]]:
    """Each image in order, stored; the next ones are sampled while these are written."""
    stored = files.keys()
    side = order.rendering.side or model.generator.config.resolution

    def finish(item: tuple[int, Pixels | None]) -> tuple[Made, bytes]:
        index, pixels = item
        seed, name = order.seed + index, _name(index, order)
        if pixels is None:
            content = files.storage.read(stored[name])
        else:
            origin = Provenance(model=card.name, version=card.version, seed=seed)
            content = render(pixels, order.rendering, origin)
            files.put(claim.record.attempt, name, content)
        made = Made(
            file=name,
            seed=seed,
            category=card.categories[order.labels[index]],
            sha256=hashlib.sha256(content).hexdigest(),
            width=side,
            height=side,
        )
        return made, content

    pending = [i for i in range(len(order.labels)) if _name(i, order) not in stored]
    sampled = _sampled(model, order, pending)
    items = (
        (i, None if _name(i, order) in stored else next(sampled)) for i in range(len(order.labels))
    )
    return map_ahead(finish, items)


def _sampled(model: Model, order: Order, pending: Sequence[int]) -> Iterator[Pixels]:
    """The pixels of those images, in their order."""
    engine = open_engine(model.generator)
    for start in range(0, len(pending), engine.batch):
        batch = pending[start : start + engine.batch]
        z = latents([order.seed + i for i in batch], engine.config.z_dim, order.truncation)
        yield from engine(z, torch.tensor([order.labels[i] for i in batch]))


def _name(index: int, order: Order) -> str:
    return f"generated-{index:05d}.{order.rendering.image_format}"
