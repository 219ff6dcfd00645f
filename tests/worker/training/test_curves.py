"""The curves of a training, as a picture and for TensorBoard."""

import io
import json
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from models.training.training_log import Lines
from worker.training import curves

LINES = [
    {
        **{"step": 10.0 * n, "images": 320.0 * n, "seconds": 2.0 * n, "time": 1000.0 + 3 * n},
        "loss_generator": 1.0 + n,
    }
    for n in range(1, 6)
] + [
    {
        **{"step": 60.0, "images": 1920.0, "seconds": 12.0, "time": 1030.0},
        **{"kid_lite1": 3.5, "recall": 0.25},
    }
]


def checksum(data: bytes) -> int:
    """TFRecord's masked CRC-32C."""
    crc: int = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def events(data: bytes) -> list[Event]:
    """The records of an event file, their checksums checked."""
    found = []
    while data:
        length = int.from_bytes(data[:8], "little")
        body = data[12 : 12 + length]
        assert int.from_bytes(data[8:12], "little") == checksum(data[:8])
        assert int.from_bytes(data[12 + length : 16 + length], "little") == checksum(body)
        found.append(Event.FromString(body))
        data = data[16 + length :]
    return found


def test_every_number_is_an_event_at_its_images_and_time() -> None:
    found = events(curves.event_file(LINES))
    scalars = [
        (value.tag, value.simple_value, event.step, event.wall_time)
        for event in found
        for value in event.summary.value
    ]
    assert scalars == [
        *(("loss_generator", 1.0 + n, 320 * n, 1000.0 + 3 * n) for n in range(1, 6)),
        ("kid_lite1", 3.5, 1920, 1030.0),
        ("recall", 0.25, 1920, 1030.0),
    ]
    # TensorBoard counts relative times from the first record, which names the format.
    assert (found[0].file_version, found[0].wall_time) == ("brain.Event:2", 1003.0)


def test_a_log_without_times_counts_the_seconds_of_the_training() -> None:
    old = [{name: x for name, x in line.items() if name != "time"} for line in LINES]
    assert [event.wall_time for event in events(curves.event_file(old))[1:3]] == [2.0, 4.0]


def test_an_event_file_names_no_machine() -> None:
    assert socket.gethostname().encode() not in curves.event_file(LINES)


def test_the_picture_shows_the_numbers() -> None:
    def ink(lines: Lines) -> int:
        pixels = np.asarray(Image.open(io.BytesIO(curves.draw(lines))).convert("RGB"))
        return int((pixels.max(2).astype(int) - pixels.min(2) > 100).sum())  # coloured pixels

    assert ink([]) == 0
    assert ink(LINES[:5]) > 200
    assert ink(LINES) > ink(LINES[:5]) + 50


@pytest.mark.parametrize("count", [1, 400])
def test_a_short_and_a_long_training_can_be_drawn(count: int) -> None:
    lines = [{"images": float(n), "loss_generator": float(n % 7)} for n in range(count)]
    assert Image.open(io.BytesIO(curves.draw(lines))).size == (1000, 700)


def test_the_command_writes_both_beside_the_metrics(tmp_path: Path) -> None:
    source = tmp_path / "metrics.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    curves.main(str(source))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1000, 700)
    assert events((tmp_path / "events.out.tfevents.vitrine").read_bytes())
