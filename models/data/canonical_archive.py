"""Canonical archive: an uploaded zip of photos rewritten in one form, with a report of its content.

The canonical zip holds `{category:03d}/{image:06d}.png` or `.jpg`, uncompressed, in order.
"""

import hashlib
import threading
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, TypeVar

import numpy as np

from models.data.archive import (
    ArchiveLimits,
    DatasetError,
    MemberError,
    open_archive,
    read_member,
)
from models.data.formats import NAMED_FORMATS
from models.data.given_attributes import GivenAttributes, matched, read_attributes
from models.data.layout import Member, arrange, list_folders, list_members
from models.data.near_duplicates import NearDuplicateFinder
from models.data.photos import CanonicalPhoto, ImageError, canonicalise, open_photo
from models.data.report import (
    CategoryReport,
    DatasetReport,
    SkippedFile,
    SkipReason,
)
from models.data.report_warnings import category_warnings, layout_warnings, skip_warnings

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_SIDE = 512  # pixels; the longest side of a kept photo
THREADS = 2
AHEAD = 3  # photos a thread, being decoded or waiting for their turn; bounds memory
LISTED_SKIPS = 100


@dataclass(kw_only=True)
class _Tally:
    """Running totals of an import."""

    categories: list[CategoryReport] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    digests: set[bytes] = field(default_factory=set)
    sides: list[tuple[int, int]] = field(default_factory=list)  # the shorter, the longer
    warnings: list[str] = field(default_factory=list)
    looks: NearDuplicateFinder = field(default_factory=NearDuplicateFinder)
    grey: bool = True
    fingerprint: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    files: dict[str, str] = field(default_factory=dict)  # stored names by path in the upload

    def skip(self, member: Member, reason: SkipReason) -> None:
        """Count a file that is left out, and list it if it is among the first."""
        self.counts[reason] += 1
        if len(self.skipped) < LISTED_SKIPS:
            self.skipped.append(SkippedFile(name=member.name, reason=reason))

    def unique(
        self, loaded: Iterable[tuple[Member, CanonicalPhoto | SkipReason]]
    ) -> Iterator[tuple[Member, CanonicalPhoto]]:
        """Usable photos that are not duplicates; counts the others as skipped."""
        for member, photo in loaded:
            if not isinstance(photo, CanonicalPhoto):
                self.skip(member, photo)
            elif photo.digest in self.digests:
                self.skip(member, "duplicate")
            else:
                self.digests.add(photo.digest)
                yield member, photo

    def write(
        self, photos: Iterable[tuple[Member, CanonicalPhoto]], target: zipfile.ZipFile
    ) -> int:
        """Add a category's photos to the canonical zip; returns how many."""
        images = 0
        for member, photo in photos:
            name = f"{len(self.categories):03d}/{images:06d}.{photo.suffix}"
            target.writestr(zipfile.ZipInfo(name), photo.data)  # dated 1980, stored
            self.fingerprint.update(f"{name} {len(photo.data)}\n".encode() + photo.data)
            self.sides.append(photo.sides)
            self.grey &= photo.grey
            self.files["/".join(member.path)] = name
            self.looks.add(member.name, photo.perceptual_hash, len(self.categories))
            images += 1
        return images

    def close(self, name: str, images: int, skipped: int) -> None:
        """End a category whose photos are written."""
        self.categories.append(CategoryReport(name=name, images=images, skipped=skipped))
        self.fingerprint.update(f"{name}\n".encode())

    def drop(self, name: str, photos: Iterable[tuple[Member, CanonicalPhoto]]) -> None:
        """Leave out a category that is too small; another may still contain the same photos."""
        self.digests.difference_update(photo.digest for _, photo in photos)
        self.warnings.append(f"Category {name!r} was left out: it has too few usable images.")

    def report(self) -> DatasetReport:
        """The result, once all categories are written."""
        images = [category.images for category in self.categories]
        imbalance = max(images) / min(images)
        self.warnings += category_warnings(self.categories, imbalance)
        self.warnings += skip_warnings(self.counts, self.skipped, sum(images))
        near_duplicates, pairs, warning = self.looks.compare()
        self.warnings += warning
        shorter, longer = zip(*self.sides, strict=True)
        return DatasetReport(
            categories=tuple(self.categories),
            images=sum(images),
            grey=self.grey,
            skipped=tuple(self.skipped),
            skipped_counts=dict(sorted(self.counts.items())),
            smallest_side=min(shorter),
            median_side=int(np.median(longer)),
            largest_side=max(longer),
            imbalance=round(imbalance, 3),
            fingerprint=self.fingerprint.hexdigest(),
            warnings=tuple(self.warnings),
            near_duplicates=near_duplicates,
            near_duplicate_pairs=pairs,
        )


class _PixelBudget:
    """Counts the pixels that an upload's photos decode to, over all threads."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self._spent = 0
        self._lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        """Count a photo before it is decoded; raises DatasetError if the upload has too many."""
        with self._lock:
            self._spent += pixels
            if self._spent > self.limits.pixels:
                raise DatasetError(
                    "too_large",
                    f"Shrink the photos: a zip may hold at most {self.limits.pixels:,} pixels.",
                )


def import_archive(source: IO[bytes], target: IO[bytes], limits: ArchiveLimits) -> DatasetReport:
    """The report of `convert_archive`."""
    return convert_archive(source, target, limits)[0]


def convert_archive(
    source: IO[bytes], target: IO[bytes], limits: ArchiveLimits
) -> tuple[DatasetReport, GivenAttributes]:
    """Check an upload and write its usable photos to `target` as a canonical zip.

    Returns the report, and what the upload's `attributes.csv` says of the stored photos.

    Deterministic: one upload always gives the same bytes. `target` is incomplete after an error.

    Raises:
        DatasetError: the upload is refused; the message says what to do.
    """
    tally = _Tally()
    with open_archive(source, limits) as archive, zipfile.ZipFile(target, "w") as canonical:
        layout = arrange(list_members(archive), limits, list_folders(archive))
        tally.warnings += layout_warnings(layout)
        given, warnings = read_attributes(archive, layout.attributes)
        tally.warnings += warnings
        for member in layout.outside:
            tally.skip(member, "outside_category")
        budget = _PixelBudget(limits)
        for name, members in layout.categories.items():
            photos = tally.unique(_load_photos(archive, members, budget))
            first = list(islice(photos, limits.min_category_images))
            if len(first) < limits.min_category_images:
                tally.drop(name, first)
                continue
            images = tally.write(chain(first, photos), canonical)
            tally.close(name, images, len(members) - images)
    if sum(category.images for category in tally.categories) < limits.min_images:
        raise DatasetError(
            "too_few_images",
            f"Add photos: a data set needs {limits.min_images} usable photos "
            f"({NAMED_FORMATS}), in categories of at least {limits.min_category_images}.",
        )
    given, warnings = matched(given, tally.files)
    tally.warnings += warnings
    return tally.report(), given


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS
) -> Iterator[Result]:
    """`map` on so many threads, in order, at most AHEAD items a thread ahead of the consumer."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= AHEAD * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _load_photos(
    archive: zipfile.ZipFile, members: Sequence[Member], budget: _PixelBudget
) -> Iterator[tuple[Member, CanonicalPhoto | SkipReason]]:
    """Each member with its photo or what is wrong with it, in order."""

    def convert(
        item: tuple[Member, bytes | SkipReason],
    ) -> tuple[Member, CanonicalPhoto | SkipReason]:
        member, content = item
        if isinstance(content, str):
            return member, content
        return member, _convert(member, content, budget)

    contents = ((member, _read(archive, member, budget.limits)) for member in members)
    return map_ahead(convert, contents)


def _read(archive: zipfile.ZipFile, member: Member, limits: ArchiveLimits) -> bytes | SkipReason:
    if member.info.file_size > limits.member_bytes:
        return "too_large"
    try:
        return read_member(archive, member.info)
    except MemberError:
        return "corrupt"


def _convert(member: Member, content: bytes, budget: _PixelBudget) -> CanonicalPhoto | SkipReason:
    try:
        opened = open_photo(content, within_s=budget.limits.photo_s)
        budget.spend(opened.width * opened.height)
        photo = canonicalise(opened, MAX_SIDE)
    except ImageError as error:
        if error.kind == "corrupt" and not member.is_named_image:
            return "not_an_image"
        return error.kind
    return photo if photo.sides[0] >= budget.limits.min_side else "too_small"
