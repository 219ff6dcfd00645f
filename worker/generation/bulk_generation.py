"""Bulk generation (the generate job): image files, a zip of all, a manifest, a contact sheet.

Images that an earlier attempt has stored are kept: an image depends only on its seed.
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
from models.data.canonical_archive import map_ahead
from models.data.category_names import index_of
from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import Provenance, encode
from models.imaging.pixels import Enhancement, Pixels, to_pixels
from models.imaging.rendering import Rendering, render
from models.inference.engine import open_engine
from models.inference.sample import even_label, latents
from models.progress import Steps
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.generation.image_counter import ImageCounter
from worker.ledger.artifacts import JobFiles
from worker.queue.queue import JobQueue
from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry
from worker.schemas.image_options import ImageOptions
from worker.schemas.jobs import JobProgress
from worker.schemas.requests import BULK_FILES, GenerateJob

MANIFEST = BULK_FILES["manifest"]  # one line an image
SIGN_EVERY_S = 0.5
COLUMNS = 8  # of the contact sheet
MOST_ROWS = 50
TILE = (64, 128)  # smallest and largest side of an image in the sheet, px


@dataclass(frozen=True, kw_only=True)
class BulkRequest:
    """The images to generate: image i has seed `seed + i` and category `labels[i]`."""

    seed: int
    labels: Sequence[int]
    truncation: float
    rendering: Rendering


@dataclass(frozen=True, kw_only=True)
class Made:
    """One image, as a line of the manifest."""

    file: str
    seed: int
    category: str
    sha256: str
    width: int
    height: int


def run_generation(attempt: Attempt, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Make the images of a generate job.

    Raises:
        JobCancelled: a client has cancelled the job.
        JobInterrupted: `stop_requested` returned True; stored images are not made again.
        ModelNotFound: the version has been deleted.
        ValueError: the version has no such category.
    """
    job = attempt.record.request
    assert isinstance(job, GenerateJob)
    assert job.model is not None  # the API has resolved it
    card = Registry(jobs.ledger.storage).resolve(job.model)
    reporter = ProgressReporter(attempt, stop_requested)
    began = time.monotonic()
    for done in make_files(attempt, card, bulk_request_of(job, card)):
        if reporter.is_due:
            eta_s = round((time.monotonic() - began) * (1 - done) / done)
            step = round(done * (job.images + 1))  # see `make_files`
            percent = round(100 * done, 2)
            progress = JobProgress(step=step, total=job.images, percent=percent, eta_s=eta_s)
            reporter.report("generating", progress, {})
    whole = JobProgress(step=job.images, total=job.images, percent=100.0, eta_s=0)
    attempt.report("generating", whole, {})
    attempt.succeed({"model": card.name, "version": card.version, "generated": job.images})


def bulk_request_of(job: GenerateJob, card: ModelCard) -> BulkRequest:
    """The images that a job asks for, with the version's category indices.

    Raises:
        ValueError: the version has no such category.
    """
    assert job.seed is not None  # the API has drawn it
    return BulkRequest(
        seed=job.seed,
        labels=labels_of(job.seed, job.wanted, card.categories),
        truncation=job.truncation,
        rendering=rendering_of(job),
    )


def labels_of(seed: int, wanted: Mapping[str, int] | int, categories: Sequence[str]) -> list[int]:
    """The category index of each image, from counts by category, or one count for all evenly.

    Raises:
        ValueError: there is no such category.
    """
    if isinstance(wanted, int):
        return [even_label(seed + i, len(categories)) for i in range(wanted)]
    labels: list[int] = []
    for name, images in wanted.items():
        label = index_of(name, categories)
        if label is None:
            raise ValueError(f"categories: {name!r} is none; known are {', '.join(categories)}")
        labels += [label] * images
    return labels


def rendering_of(options: ImageOptions) -> Rendering:
    """The rendering that a client's options describe."""
    compression = options.output_compression
    return Rendering(
        enhancement=Enhancement(**vars(options.enhance)),
        side=options.side,
        image_format=options.output_format,
        compression=Rendering.compression if compression is None else compression,
    )


def make_files(attempt: Attempt, card: ModelCard, bulk: BulkRequest) -> Steps[None]:
    """Store every image, then zip, manifest and contact sheet; yields the fraction done.

    The files after the images count as one more image.
    """
    files = JobFiles(attempt.ledger.storage, attempt.record.id)
    model = load_model(Registry(attempt.ledger.storage).weights(card))
    sheet = Sheet(model, bulk)
    lines: list[str] = []
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w") as archive:  # uncompressed: images are compressed already
            for made, content in _images(attempt, files, model, card, bulk):
                archive.writestr(zipfile.ZipInfo(made.file), content)  # a fixed date, 1980
                sheet.add(bulk.labels[len(lines)], content)
                lines.append(json.dumps(asdict(made)) + "\n")
                yield len(lines) / (len(bulk.labels) + 1)
            manifest = "".join(lines).encode()
            archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
        packed.seek(0)
        # Gigabytes take a while, and a job that does not report is taken for hung.
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(attempt.store, BULK_FILES["zip"], packed)
            while not wait([storing], SIGN_EVERY_S).done:
                yield len(lines) / (len(lines) + 1)
            storing.result()
    attempt.store(MANIFEST, manifest)
    attempt.store(BULK_FILES["sheet"], sheet.encoded())


class Sheet:
    """Contact sheet of the first images of each category, filled as images are stored."""

    def __init__(self, model: Model, bulk: BulkRequest) -> None:
        self._categories = model.categories
        wanted = bulk.rendering.side or model.generator.config.resolution
        self._tile = min(max(wanted, TILE[0]), TILE[1])
        self._rows: dict[int, list[Pixels]] = {}

    def add(self, label: int, content: bytes) -> None:
        """Add an image; ignored when its row, or the number of rows, is full."""
        if label not in self._rows and len(self._rows) == MOST_ROWS:
            return
        row = self._rows.setdefault(label, [])
        if len(row) < COLUMNS:
            row.append(to_pixels(Image.open(io.BytesIO(content))))

    def encoded(self) -> bytes:
        """The sheet as PNG, a labelled row for each category."""
        shown = sorted(self._rows)
        rows = [self._rows[label] for label in shown]
        names = [self._categories[label] for label in shown]
        return encode(contact_sheet(rows, names, tile=self._tile), "png")


def _images(
    attempt: Attempt, files: JobFiles, model: Model, card: ModelCard, bulk: BulkRequest
) -> Iterator[tuple[Made, bytes]]:
    """Each image of `bulk`, once stored; later ones are sampled while earlier ones are written."""
    stored = files.keys()
    side = bulk.rendering.side or model.generator.config.resolution

    def finish(item: tuple[int, Pixels | None]) -> tuple[Made, bytes]:
        index, pixels = item
        seed, name = bulk.seed + index, _name(index, bulk)
        if pixels is None:
            content = files.storage.read(stored[name])
        else:
            origin = Provenance(model=card.name, version=card.version, seed=seed)
            content = render(pixels, bulk.rendering, origin)
            files.put(attempt.record.attempt, name, content)
        made = Made(
            file=name,
            seed=seed,
            category=card.categories[bulk.labels[index]],
            sha256=hashlib.sha256(content).hexdigest(),
            width=side,
            height=side,
        )
        return made, content

    pending = [i for i in range(len(bulk.labels)) if _name(i, bulk) not in stored]
    with ImageCounter(attempt.ledger.leases.redis, card.name) as counter:
        sampled = _sampled(model, bulk, pending, counter)
        items = (
            (i, None if _name(i, bulk) in stored else next(sampled))
            for i in range(len(bulk.labels))
        )
        yield from map_ahead(finish, items)


def _sampled(
    model: Model, bulk: BulkRequest, pending: Sequence[int], counter: ImageCounter
) -> Iterator[Pixels]:
    """The pixels of the images with the indices `pending`, in that order."""
    engine = open_engine(model.generator)
    for start in range(0, len(pending), engine.batch):
        batch = pending[start : start + engine.batch]
        z = latents([bulk.seed + i for i in batch], engine.config.z_dim, bulk.truncation)
        pixels = engine(z, torch.tensor([bulk.labels[i] for i in batch]))
        counter.add(len(batch))
        yield from pixels


def _name(index: int, bulk: BulkRequest) -> str:
    return f"generated-{index:05d}.{bulk.rendering.image_format}"
