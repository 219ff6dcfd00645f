"""Connected components of a binary picture: runs of pixels in each line, joined by union-find.

Shapes: H height, W width.
"""

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def label_components(flags: Flags) -> NDArray[np.int32]:
    """Number the 4-connected regions of (H, W) from 1, by their first pixels; the rest is 0."""
    padded = np.pad(flags, ((0, 0), (1, 1))).astype(np.int8)
    changes = np.diff(padded, axis=1)
    rows, starts = np.nonzero(changes == 1)
    _, ends = np.nonzero(changes == -1)
    parents = list(range(len(rows)))
    _join_touching(rows.tolist(), starts.tolist(), ends.tolist(), parents)
    roots = np.array([_root(run, parents) for run in range(len(rows))], dtype=np.int64)
    numbers = np.unique(roots, return_inverse=True)[1] + 1 if len(roots) else roots
    labels = np.zeros(flags.shape, dtype=np.int32)
    labels[flags] = np.repeat(numbers, ends - starts)
    return labels


def _join_touching(rows: list[int], starts: list[int], ends: list[int], parents: list[int]) -> None:
    """Join each run with those of the line above that share a column; runs are in order."""
    above = 0
    for run, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] <= starts[run]):
            above += 1
        other = above
        while rows[other] == row - 1 and starts[other] < ends[run]:
            upper, lower = _root(other, parents), _root(run, parents)
            # The smaller one, so that a region's root is its first run.
            parents[max(upper, lower)] = min(upper, lower)
            other += 1


def _root(run: int, parents: list[int]) -> int:
    while parents[run] != run:
        parents[run] = run = parents[parents[run]]
    return run
