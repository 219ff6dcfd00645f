"""Warnings of a data set's report: what a shop may want to change in its zip before a training."""

from collections import Counter
from collections.abc import Iterable, Sequence

from models.data.archive import printable
from models.data.category_names import fold
from models.data.formats import NAMED_FORMATS
from models.data.layout import MAX_SHOWN, Layout, Path
from models.data.report import CategoryReport, SkippedFile

IMBALANCE_WARNING = 10  # times as many images in the largest category as in the smallest
FEW_IMAGES_WARNING = 50  # per category
SKIPPED_WARNING = 0.2  # of all files
NAMED = 10  # names in one warning


def layout_warnings(layout: Layout) -> list[str]:
    """What the folders of an upload may not mean."""
    warnings = []
    if layout.empty:
        warnings.append(f"Empty folders: {_listed(map(repr, layout.empty))}.")
    merged = [
        f"{name!r} ({_listed(map(_shown, below))})"
        for name, members in layout.categories.items()
        if len(below := _folders_below((member.path for member in members), layout.depth)) > 1
    ]
    if merged:
        warnings.append(
            f"Categories that take the photos of several sub-folders: {_listed(merged)}. If these"
            " are categories, put no photos beside them, and all of them into one folder."
        )
    return warnings


def category_warnings(categories: Sequence[CategoryReport], imbalance: float) -> list[str]:
    """What may be wrong with the categories that are kept."""
    warnings = [
        f"{_listed(map(repr, names), ' and ')} have nearly the same name: if they are one category,"
        " make one folder."
        for names in _similar([category.name for category in categories])
    ]
    if len(categories) == 1:
        warnings.append(
            f"{categories[0].name!r} is the only category: if there are several kinds of products,"
            " make a folder for each."
        )
    if imbalance > IMBALANCE_WARNING:
        warnings.append(f"The largest category has {imbalance:.0f} times the smallest's images.")
    few = [category.name for category in categories if category.images < FEW_IMAGES_WARNING]
    if few:
        warnings.append(f"Fewer than {FEW_IMAGES_WARNING} images in: {_listed(few)}.")
    return warnings


def skip_warnings(counts: Counter[str], skipped: Sequence[SkippedFile], images: int) -> list[str]:
    """Warnings of files of other formats, and of many that were left out; `images` were kept."""
    warnings = []
    if counts["unsupported"]:
        warnings.append(
            f"Files that are no {NAMED_FORMATS} of 8 or 16 bits: {counts['unsupported']}."
            " Convert them."
        )
    files = images + counts.total()
    if counts.total() <= SKIPPED_WARNING * files:
        return warnings
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    names = _listed(repr(file.name) for file in skipped)
    told = f"{counts.total()} of {files} files were skipped ({reasons}), such as {names}."
    return [*warnings, told]


def _folders_below(paths: Iterable[Path], depth: int) -> list[str]:
    """The folders inside a category's that have photos, from there on."""
    return sorted({"/".join(path[depth + 1 : -1]) for path in paths if len(path) > depth + 2})


def _similar(names: Sequence[str]) -> list[list[str]]:
    """The names that are the same but for case and accents, together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(fold(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _shown(folder: str) -> str:
    return repr(printable(folder)[:MAX_SHOWN])


def _listed(names: Iterable[str], separator: str = ", ") -> str:
    """The first names."""
    shown = list(names)
    return separator.join(shown[:NAMED]) + (", ..." if len(shown) > NAMED else "")
