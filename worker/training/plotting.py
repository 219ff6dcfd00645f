"""Plotting by matplotlib and TensorBoard event files, both imported lazily.

Importing them takes about a second, which would delay the start of every job.
"""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter
    from tensorboardX import SummaryWriter

DPI = 100


def blank(width: float, height: float) -> "Figure":
    """An empty figure; width and height in hundreds of pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def label_thrice_a_decade(axis: "Axis") -> None:
    """Put the ticks of a logarithmic axis at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())


def thousands() -> "Formatter":
    """A tick formatter that writes 100k, 2M, ..."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def packed(figure: "Figure") -> bytes:
    """The figure as PNG."""
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def event_writer(folder: str) -> "SummaryWriter":
    """A writer of one TensorBoard event file in `folder`."""
    from tensorboardX import SummaryWriter

    return SummaryWriter(folder, write_to_disk=True)
