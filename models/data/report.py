"""Data set report: what the validation of an upload found, as stored and shown."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

ContentFault = Literal[
    "corrupt", "unsupported", "too_small", "too_large", "too_slow", "not_an_image"
]
SkipReason = Literal[ContentFault, "duplicate", "outside_category"]
Json: TypeAlias = "list[Json] | dict[str, Json] | str | bool | int | float | None"


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file that was left out."""

    name: str  # printable, at most 200 characters
    reason: SkipReason


@dataclass(frozen=True, kw_only=True)
class CategoryReport:
    """One category of a data set."""

    name: str
    images: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class NearDuplicatePair:
    """Two kept photos that look alike; the names as in `SkippedFile`."""

    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """Contents of an upload; sides are those of the uploaded photos, in pixels."""

    categories: tuple[CategoryReport, ...]
    images: int
    grey: bool  # all images are
    skipped: tuple[SkippedFile, ...]  # the first of them
    skipped_counts: dict[str, int]  # of all, by reason
    smallest_side: int  # the shortest of any photo
    median_side: int  # of the photos' longer sides
    largest_side: int  # the longest of any photo
    imbalance: float  # largest category / smallest
    fingerprint: str  # SHA-256 of the canonical photos and category names
    warnings: tuple[str, ...]
    # Older reports have neither of the two.
    near_duplicates: int = 0  # kept photos that look like an earlier one
    near_duplicate_pairs: tuple[
        NearDuplicatePair, ...
    ] = ()  # the first; those across categories lead

    def to_json(self) -> dict[str, Json]:
        """The report as JSON, as `from_json` reads it; tuples become lists."""
        report: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        return report

    @classmethod
    def from_json(cls, report: Mapping[str, Json]) -> "DatasetReport":
        """The inverse of `to_json`, also after a round trip through JSON text."""
        fields = json.loads(json.dumps(report))
        fields["categories"] = tuple(CategoryReport(**item) for item in fields["categories"])
        fields["skipped"] = tuple(SkippedFile(**item) for item in fields["skipped"])
        pairs = fields.get("near_duplicate_pairs", ())
        fields["near_duplicate_pairs"] = tuple(NearDuplicatePair(**pair) for pair in pairs)
        return cls(**{**fields, "warnings": tuple(fields["warnings"])})
