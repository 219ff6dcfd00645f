"""Bulk generation (the generate job): image files, a zip of all, a manifest, a contact sheet.

Images that an earlier attempt has stored are kept: an image depends only on its seed.
"""

import hashlib
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from pydantic import JsonValue

from models.checkpoint import Model, load_model
from models.classification.photo_classifier import CLASSIFIER_FILE, load_photo_classifier
from models.classification.tried_seeds import rejected_before
from models.data.canonical_archive import map_ahead
from models.data.category_names import index_of
from models.imaging.encoding import Provenance, seed_in
from models.imaging.pixels import Enhancement
from models.imaging.rendering import Rendering, render
from models.inference.sample import even_label
from models.progress import Steps
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.generation.bulk_sheet import Sheet
from worker.generation.image_counter import ImageCounter
from worker.generation.manifest import Made, Tally
from worker.generation.sampling import BulkRequest, BulkSampler, Filter, Sampled
from worker.ledger.artifacts import JobFiles
from worker.queue.queue import JobQueue
from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry
from worker.schemas.image_options import ImageOptions
from worker.schemas.jobs import JobProgress
from worker.schemas.requests import BULK_FILES, GenerateJob
from worker.storage import Storage

MANIFEST = BULK_FILES["manifest"]  # one line an image
SIGN_EVERY_S = 0.5
NONE_PASSED = "min_category_probability: no image reached it; lower it, or train a better model"


class NoImagePassed(ValueError):
    """`min_category_probability` has rejected all images of the job."""


def run_generation(attempt: Attempt, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Make the images of a generate job.

    Raises:
        JobCancelled: a client has cancelled the job.
        JobInterrupted: `stop_requested` returned True; stored images are not made again.
        ModelNotFound: the version has been deleted.
        NoImagePassed: all images were rejected.
        ValueError: the version has no such category.
    """
    job = attempt.record.request
    assert isinstance(job, GenerateJob)
    assert job.model is not None  # the API has resolved it
    card = Registry(jobs.ledger.storage).resolve(job.model)
    reporter = ProgressReporter(attempt, stop_requested)
    began, tally = time.monotonic(), Tally()
    for done in make_files(attempt, card, bulk_request_of(job, card), tally):
        if reporter.is_due:
            eta_s = round((time.monotonic() - began) * (1 - done) / done)
            step = round(done * (job.images + 1))  # see `make_files`
            percent = round(100 * done, 2)
            progress = JobProgress(step=step, total=job.images, percent=percent, eta_s=eta_s)
            reporter.report("generating", progress, {})
    whole = JobProgress(step=job.images, total=job.images, percent=100.0, eta_s=0)
    attempt.report("generating", whole, {})
    result: dict[str, JsonValue] = {"model": card.name, "version": card.version}
    result["generated"] = tally.images
    if job.min_category_probability is not None:
        result |= {"left_out": tally.left_out, "rejected_seeds": tally.rejected_seeds}
    attempt.succeed(result)


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
        min_category_probability=job.min_category_probability,
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


def make_files(
    attempt: Attempt, card: ModelCard, bulk: BulkRequest, tally: Tally | None = None
) -> Steps[None]:
    """Store every image, then zip, manifest and contact sheet; yields the fraction done.

    The files after the images count as one more image. Images are counted in `tally`.

    Raises:
        NoImagePassed: all images were rejected.
    """
    tally = tally or Tally()
    model = load_model(Registry(attempt.ledger.storage).weights(card))
    sheet = Sheet(model, bulk)
    lines: list[str] = []
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w") as archive:  # uncompressed: images are compressed already
            for index, image in enumerate(_images(attempt, model, card, bulk)):
                tally.add(None if image is None else image[0])
                if image is not None:
                    made, content = image
                    archive.writestr(zipfile.ZipInfo(made.file), content)  # a fixed date, 1980
                    sheet.add(bulk.labels[index], content)
                    lines.append(made.line())
                yield (index + 1) / (len(bulk.labels) + 1)
            manifest = "".join(lines).encode()
            archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
        if not lines:
            raise NoImagePassed(NONE_PASSED)
        packed.seek(0)
        # Gigabytes take a while, and a job that does not report is taken for hung.
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(attempt.store, BULK_FILES["zip"], packed)
            while not wait([storing], SIGN_EVERY_S).done:
                yield len(bulk.labels) / (len(bulk.labels) + 1)
            storing.result()
    attempt.store(MANIFEST, manifest)
    attempt.store(BULK_FILES["sheet"], sheet.encoded())


def _images(
    attempt: Attempt, model: Model, card: ModelCard, bulk: BulkRequest
) -> Iterator[tuple[Made, bytes] | None]:
    """Each image of `bulk`, once stored; later ones are sampled while earlier ones are written.

    None for one that no seed makes well enough.
    """
    files = JobFiles(attempt.ledger.storage, attempt.record.id)
    stored = files.keys()
    side = bulk.rendering.side or model.generator.config.resolution

    def finish(item: tuple[int, Sampled | None]) -> tuple[Made, bytes] | None:
        index, image = item
        name, first = _name(index, bulk), bulk.seed + index
        if name in stored:
            content = files.storage.read(stored[name])
            seed = first if chosen_by is None else seed_in(content)
        elif image is None:
            return None
        else:
            seed = image.seed
            origin = Provenance(model=card.name, version=card.version, seed=seed)
            content = render(image.pixels, bulk.rendering, origin)
            files.put(attempt.record.attempt, name, content)
        made = Made(
            file=name,
            seed=seed,
            category=card.categories[bulk.labels[index]],
            sha256=hashlib.sha256(content).hexdigest(),
            width=side,
            height=side,
            rejected_seeds=None if chosen_by is None else rejected_before(first, seed),
        )
        return made, content

    pending = [i for i in range(len(bulk.labels)) if _name(i, bulk) not in stored]
    chosen_by = _filter(attempt.ledger.storage, card, bulk)
    with ImageCounter(attempt.ledger.leases.redis, card.name) as counter:
        sampled = BulkSampler.of(model, bulk, counter, chosen_by).sampled(pending)
        items = (
            (i, None if _name(i, bulk) in stored else next(sampled))
            for i in range(len(bulk.labels))
        )
        yield from map_ahead(finish, items)


def _filter(storage: Storage, card: ModelCard, bulk: BulkRequest) -> Filter | None:
    """What rejects images of a version, where the request asks for it."""
    if bulk.min_category_probability is None:
        return None
    classifier = load_photo_classifier(Registry(storage).file(card, CLASSIFIER_FILE))
    return Filter(
        classifier=classifier,
        minimum=bulk.min_category_probability,
        places=[classifier.categories.index(name) for name in card.categories],
    )


def _name(index: int, bulk: BulkRequest) -> str:
    return f"generated-{index:05d}.{bulk.rendering.image_format}"
