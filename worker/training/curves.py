"""Training curves: the metrics of a training as a PNG plot and as a TensorBoard event file.

python -m worker.training.curves metrics.jsonl    # writes curves.png and the event file beside it
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from models.training import training_log
from worker.training import plotting

# The plots: title, and the metrics drawn in each.
PLOTS = {
    "Losses": ("loss_generator", "loss_discriminator"),
    "Discriminator accuracy": ("discriminator_accuracy",),
    "KID against held-out photos": ("kid_lite1", "kid_cnn"),
    "Diversity": ("recall", "coverage", "diversity"),
}
SMOOTHED_OVER = 0.02  # window of the moving average, as a fraction of all points


def draw(lines: training_log.Lines) -> bytes:
    """The curves over images seen, PNG; plots without data are left empty."""
    figure = plotting.blank(10, 7)
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, PLOTS.items(), strict=True):
        axes.set_title(title)
        axes.set_xlabel("images seen")
        axes.grid(alpha=0.3)
        for name in names:
            points = [(line["images"], line[name]) for line in lines if name in line]
            if not points:
                continue
            images, values = zip(*points, strict=True)
            window = max(1, round(len(points) * SMOOTHED_OVER))
            axes.plot(images, _smoothed(values, window), label=name, marker=_marker(len(points)))
        if axes.has_data():
            axes.legend()
    return plotting.packed(figure)


def event_file(lines: training_log.Lines) -> bytes:
    """The metrics as a TensorBoard event file, each at the time of its step.

    A log without times, as older ones are, counts the seconds of training since 1970.
    """
    scalars = [
        (line.get("time", line["seconds"]), int(line["images"]), name, value)
        for line in lines
        for name, value in line.items()
        if name not in training_log.PLACE
    ]
    with tempfile.NamedTemporaryFile() as file:
        plotting.write_events(file.name, scalars)
        return file.read()


def _smoothed(values: Sequence[float], window: int) -> list[float]:
    """Moving average: the mean of each value and up to `window` - 1 before it."""
    parts = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


def _marker(points: int) -> str:
    """A marker for each point of a short curve, where a line alone would suggest more data."""
    return "o" if points <= 30 else ""


def main(path: str) -> None:
    """Write curves.png and the event file beside a metrics file."""
    source = Path(path)
    lines = training_log.parse(source.read_bytes())
    source.with_name("curves.png").write_bytes(draw(lines))
    source.with_name("events.out.tfevents.vitrine").write_bytes(event_file(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
