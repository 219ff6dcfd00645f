"""Plotting by matplotlib and TensorBoard event files, both imported lazily.

Importing them takes about a second, which would delay the start of every job.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

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


def write_events(path: str, scalars: Sequence[tuple[float, int, str, float]]) -> None:
    """Write (time, step, name, value) as a TensorBoard event file; times in seconds since 1970."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter
    from tensorboardX.summary import scalar

    began = min((at for at, *_ in scalars), default=0.0)
    events = [Event(wall_time=began, file_version="brain.Event:2")]
    for at, step, name, value in scalars:
        events.append(Event(wall_time=at, step=step, summary=scalar(name, value)))
    writer = RecordWriter(path)  # a SummaryWriter would begin with the time of writing
    for event in events:
        writer.write(event.SerializeToString())
    writer.close()
