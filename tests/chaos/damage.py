"""Damaged and stray objects, in the store of a service that clients have used."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.promises import Answer, Ask, Promise
from tests.chaos.restart import Restarted, half_there, restarted, unkept
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.records import Records
from worker.storage import StorageError

WAYS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "other JSON": lambda _: b"{}",
    "zeroes": lambda content: bytes(len(content)),
}
STRAY = (".DS_Store", "Thumbs.db", "old copy.json", "half#0123456789abcdef", "~lock")
LISTS = ("/datasets", "/models", "/jobs")


@dataclass
class Damaged:
    """Results of the damages."""

    done: Counter[str] = field(default_factory=Counter)  # by way
    noticed: int = 0  # which the service reported, or answered for with 503
    stray: int = 0  # objects that are not the service's own, all at once
    complaints: list[str] = field(default_factory=list)


def damage_objects(
    data: Path, promises: list[Promise], folder: Path, seed: int, most: int | None = None
) -> Damaged:
    """Damage each object of a data folder in each way, one at a time.

    With `most`, so many drawn by `seed`, three quarters of them records. Only what is about a
    damaged object may be lost, and nothing by stray ones.
    """
    result = Damaged()
    objects = data / "objects"
    keys = sorted(str(path.relative_to(objects)) for path in objects.rglob("*") if path.is_file())
    cases = [(key, way) for key in keys for way in WAYS]
    random.Random(seed).shuffle(cases)
    if most is not None:
        records = [case for case in cases if case[0].endswith(".json")][: most * 3 // 4]
        cases = [*records, *(case for case in cases if not case[0].endswith(".json"))][:most]
    with EmbeddedValkey(folder / "valkey") as valkey:
        with _copy(data, folder / "copy") as copy:
            result.stray = _litter(copy / "objects")
            with restarted(copy, valkey) as api:
                lost = [*unkept(promises, api.ask), *half_there(api), *api.storage.damaged]
            result.complaints += [f"by stray objects: {what}" for what in lost]
        for key, way in cases:
            with _copy(data, folder / "copy") as copy:
                harmed = copy / "objects" / key
                content = harmed.read_bytes()
                harmed.unlink()  # it is a hard link
                harmed.write_bytes(WAYS[way](content))
                noticed, lost = _look(copy, valkey, [p for p in promises if not _is_of(p, key)])
            result.done[way] += 1
            result.noticed += noticed
            result.complaints += [f"{key}, {way}: {what}" for what in lost]
    return result


def _look(data: Path, valkey: EmbeddedValkey, promises: list[Promise]) -> tuple[bool, list[str]]:
    """Whether the API notices the damage, and what is lost that should not be."""
    statuses: Counter[int] = Counter()
    try:
        with restarted(data, valkey) as api:
            ask = _counted(api.ask, statuses)
            lost = [*unkept(promises, ask)]
            lost += [path for path in LISTS if ask("GET", path).status != 200]
            list(Records(api.storage).marked_open())  # as the reconciler does
            _read_everything(api, ask)
            noticed = bool(api.storage.damaged) or statuses[503] > 0
    except StorageError as error:
        return True, [f"the start: {error}"]
    return noticed, lost + ["an answer of 500"] * statuses[500]


def _read_everything(api: Restarted, ask: Ask) -> None:
    """Read each record of the store once, for what its damage does to the answer."""
    for dataset in api.storage.folders("datasets"):
        ask("GET", f"/datasets/{dataset}")
    for job in api.storage.folders("jobs/records"):
        ask("GET", f"/jobs/{job}")
        ask("GET", f"/jobs/{job}/webhook")
    for model in api.storage.folders("models"):
        ask("GET", f"/models/{model}")
        for version in api.storage.folders(f"models/{model}/versions"):
            ask("GET", f"/models/{model}/versions/{version}")
            ask("GET", f"/models/{model}/versions/{version}/weights")
    ask("GET", "/webhooks/secret")


def _counted(ask: Ask, statuses: Counter[int]) -> Ask:
    def counted(method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        answer = ask(method, path, body, key)
        statuses[answer.status] += 1
        return answer

    return counted


def _is_of(promise: Promise, key: str) -> bool:
    """Whether what is promised depends on the object with this key."""
    about = promise.about
    if key.startswith("secrets/"):
        return about.startswith("/images/")
    if key.startswith("idempotency/"):
        return about.startswith("key ")
    return any(part in about for part in key.replace(".", "/").split("/") if _is_name(part))


def _is_name(part: str) -> bool:
    """Whether a part of a key names one thing: by its id, or a model by its name."""
    return part[:3] in ("ds_", "gen") or part.startswith(("job_", "shoes-", "fashion-mnist"))


@contextmanager
def _copy(data: Path, target: Path) -> Iterator[Path]:
    """A copy of a data folder, whose files are hard links: replace them to change them."""
    shutil.copytree(data / "objects", target / "objects", copy_function=os.link)
    yield target
    shutil.rmtree(target)


def _litter(objects: Path) -> int:
    """Put files of others, and a backup of one of its own, into each folder; returns how many."""
    count = 0
    for folder in [objects, *(path for path in objects.rglob("*") if path.is_dir())]:
        own = sorted(path for path in folder.iterdir() if path.is_file())
        for name in STRAY:
            (folder / name).write_bytes(b"stray")
        for path in own[:1]:
            (folder / "backup").mkdir()
            os.link(path, folder / "backup" / path.name)
        count += len(STRAY) + len(own[:1])
    return count
