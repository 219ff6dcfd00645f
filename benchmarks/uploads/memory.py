"""python -m benchmarks.uploads.memory: time and memory of a large upload in the API process.

Makes a zip of distinct photos, sends it over HTTP to its own `python -m app`, and records that
process's memory before, at the peak and after, and the temporary files that it leaves. With `--s3`,
objects go to an S3 server process instead of to a folder.
"""

import argparse
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.measure import machine
from tests.processes import children, imports, open_temporary_files, resident_bytes
from tests.s3 import S3Server, s3_environment
from tests.service import Service
from worker.embedded_valkey import EmbeddedValkey

MIB = 2**20
SIDES = (640, 800, 1024, 1280, 1600)  # of photos as phones and shops make them
CATEGORIES = ("bags", "dresses", "hats", "shoes", "shirts")
QUALITY = 88
SAMPLE_EVERY_S = 0.05
UPLOAD_S = 3600.0


class MemorySampler:
    """Samples the peak memory of a process and of its children until the block ends."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak = 0
        self.child_peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        known = children(self.pid)
        while not self._over.wait(SAMPLE_EVERY_S):
            self.peak = max(self.peak, resident_bytes(self.pid))
            for child in children(self.pid) - known | imports(self.pid):
                self.child_peak = max(self.child_peak, resident_bytes(child))


def photos(seed: int) -> Iterator[bytes]:
    """Endless JPEGs, all different: blurred shapes with the grain of a camera."""
    rng = np.random.default_rng(seed)
    soft = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    canvas = Image.fromarray(soft).resize((3200, 3200), Image.Resampling.BICUBIC)
    canvas = canvas.filter(ImageFilter.GaussianBlur(3))
    grain = rng.integers(-14, 15, (3200, 3200, 1), dtype=np.int16)
    scene = np.clip(np.asarray(canvas, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
    while True:
        width, height = (int(side) for side in rng.choice(SIDES, 2))
        x, y = (int(rng.integers(0, 3200 - side)) for side in (width, height))
        shifts = rng.integers(0, 256, 3, dtype=np.uint8)  # of the colours, around the circle
        file = BytesIO()
        image = Image.fromarray(scene[y : y + height, x : x + width] + shifts)
        image.save(file, "jpeg", quality=QUALITY)
        yield file.getvalue()


def make_archive(path: Path, size_bytes: int) -> int:
    """Write a zip of about this size; returns how many photos it holds."""
    count = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for count, photo in enumerate(photos(0), 1):
            archive.writestr(f"{CATEGORIES[count % len(CATEGORIES)]}/{count:06d}.jpg", photo)
            if archive.start_dir > size_bytes:
                break
    return count


@contextmanager
def service(folder: Path, *, s3: bool) -> Iterator[Service]:
    """The API in a process of its own, its temporary files in `folder`/temporary."""
    temporary = folder / "temporary"
    temporary.mkdir()
    with ExitStack() as stack:
        settings = {"VITRINE_DATA_DIR": str(folder / "data"), "TMPDIR": str(temporary)}
        if s3:
            server = S3Server()
            stack.callback(server.close)
            valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
            settings |= s3_environment(server.port) | {
                "VITRINE_REDIS_URL": valkey.url,
                "VITRINE_STORAGE_URL": "s3://vitrine/benchmark",
            }
        running = Service(settings)
        stack.callback(running.close)
        running.wait_until_ready()
        yield running
        running.interrupt()


def upload(running: Service, path: Path, photo_count: int) -> None:
    """Send the zip, and print the time, the memory and the temporary files left open."""
    pid, size_bytes = running.process.pid, path.stat().st_size
    before = resident_bytes(pid)
    started = time.perf_counter()
    with MemorySampler(pid) as watch, path.open("rb") as archive:
        answer = running.client.post("/datasets", files={"file": archive}, timeout=UPLOAD_S)
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    assert answer.json()["images"] == photo_count, answer.text
    after = resident_bytes(pid)
    print(f"  {'seconds':<34} {seconds:10.1f}  ({size_bytes / MIB / seconds:.1f} MiB/s)")
    print(f"  {'photos a second':<34} {photo_count / seconds:10.1f}")
    print(f"  {'API, resident before, MiB':<34} {before / MIB:10.0f}")
    print(f"  {'API, highest growth, MiB':<34} {(watch.peak - before) / MIB:10.0f}")
    print(f"  {'API, growth afterwards, MiB':<34} {(after - before) / MIB:10.0f}")
    print(f"  {'decoding child, highest, MiB':<34} {watch.child_peak / MIB:10.0f}")
    print(f"  {'temporary files still open':<34} {open_temporary_files(pid):10d}")


def main() -> None:
    """Measure one upload after another into the same process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--s3", action="store_true", help="store the objects on an S3 server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "photos.zip"
        count = make_archive(path, options.megabytes * 1_000_000)
        where = "S3" if options.s3 else "a folder"
        print(f"{count} photos, {path.stat().st_size / MIB:.0f} MiB, to {where}; {machine()}")
        with service(folder, s3=options.s3) as running:
            for number in range(options.rounds):
                print(f"upload {number + 1}", flush=True)
                upload(running, path, count)
        left = list((folder / "temporary").iterdir())
        print(f"  {'files left in the temporary folder':<34} {len(left):10d}")


if __name__ == "__main__":
    main()
