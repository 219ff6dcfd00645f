"""Power cuts: what the disc may hold at a moment, and what of its promises the service then keeps.

One run of the whole service is recorded, with its clients' requests. Then, for each answer and for
moments between them, the worst discs that a power cut could have left are built, and the service is
started on each: all that was answered with 2xx must be there, and nothing may be half there. Redis
is not on the disc: it is rebuilt.
"""

import hashlib
import random
import shutil
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from app.main import create_app
from tests.chaos.disc import Disc
from tests.chaos.promises import FINISH_S, Answer, Ask, Client, Promise, outstanding
from tests.chaos.recorder import Recorder
from tests.receiver import receiving
from tests.service import Service
from worker.datasets.datasets import DatasetStore
from worker.embedded_valkey import EmbeddedValkey
from worker.registry.bundled_models import register_models
from worker.registry.registry import Registry
from worker.settings import Settings
from worker.storage import Storage


@dataclass
class PowerCuts:
    """Results of the power cuts."""

    answers: int = 0  # that promised something
    cuts: int = 0
    names_at_risk: int = 0  # that were not synced at the moment of a cut, over all cuts
    promises: int = 0  # that were checked, over all cuts
    broken: list[str] = field(default_factory=list)


def cut_power(folder: Path, seed: int, clients: int, most: int | None = None) -> PowerCuts:
    """Record clients, then cut the power after each answer, and as often between answers.

    At most `most` of these moments are drawn by `seed`; what a cut leaves of the rest is, too.
    """
    folder = folder.resolve()
    recorder = Recorder(folder, folder / "root", folder / "root" / "data" / "valkey")
    promises = [client.promises for client in _record(recorder, clients)]
    records, result, chance = list(recorder.records()), PowerCuts(), random.Random(seed)
    promising = {promise.request_id for each in promises for promise in each}
    after = [n for n, record in enumerate(records) if promising.intersection(record.arguments)]
    result.answers, middle = len(after), after[len(after) // 2]
    moments = after + chance.sample(range(len(records)), len(after))
    moments = [middle, *chance.sample(moments, min(most or len(moments), len(moments)))]
    disc, answered = Disc(recorder), set[str]()
    with EmbeddedValkey(folder / "valkey") as valkey:
        for moment, record in enumerate(records):
            disc.replay(record)
            answered |= {*record.arguments} if record.call == "answer" else set()
            if moment not in moments:
                continue
            due = [promise for each in promises for promise in outstanding(each, answered)]
            for kept in (None, chance):
                with _left(disc, folder / "left", kept) as left:
                    found = _broken(left, valkey, due)
                    found += _restarted(left, due) if moment == middle else []
                result.cuts += 1
                result.promises += len(due)
                result.names_at_risk += disc.at_risk()
                result.broken += [f"{moment}, {' '.join(record.arguments)}: {it}" for it in found]
    result.broken += [f"not recorded: {path}" for path in disc.differences()]
    return result


def _record(recorder: Recorder, clients: int) -> list[Client]:
    """Run the service with so many clients at once, until all of them are done."""
    recorder.root.mkdir()
    data = {"VITRINE_DATA_DIR": str(recorder.root / "data"), "VITRINE_WEBHOOK_PRIVATE": "true"}
    with closing(Service(recorder.environment | data)) as service, receiving() as receiver:
        service.wait_until_ready()
        everyone = [Client(n, service.client, receiver.url) for n in range(clients)]
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(Client.run, everyone))
        service.interrupt()
    return everyone


@contextmanager
def _left(disc: Disc, folder: Path, chance: random.Random | None) -> Iterator[Path]:
    """The data folder of the service after a power cut."""
    disc.leave(folder, chance)
    yield folder / "data"
    shutil.rmtree(folder)


def _broken(data: Path, valkey: EmbeddedValkey, promises: list[Promise]) -> list[str]:
    """Start the API on what is left; returns the broken promises and what is only half there."""
    settings = Settings(
        redis_url=valkey.url,
        storage_url=f"file://{data / 'objects'}",
        webhook_private=True,
        allowed_hosts="testserver",  # as Starlette's TestClient calls it
    )
    assert settings.storage_url is not None
    storage = Storage.open(settings.storage_url)
    register_models(Registry(storage))
    app = create_app(settings)
    queue = app.state.services.queue
    queue.leases.redis.flushall()
    # Not entered, so that no background loop changes anything.
    ask = _asking(TestClient(app, raise_server_exceptions=False))
    found = [*_unkept(promises, ask), *_half_there(storage, ask)]
    found += [f"{key} is damaged" for key in app.state.services.storage.damaged]
    app.state.services.sampler.batcher.close()
    queue.leases.redis.close()
    queue.queue.connection.close()
    return found


def _unkept(promises: list[Promise], ask: Ask) -> Iterator[str]:
    for promise in promises:
        try:
            kept = promise.is_kept(ask)
        except (LookupError, ValueError):  # an answer of another kind
            kept = False
        if not kept:
            yield f"{promise.about}, promised to {promise.request_id}"


def _half_there(storage: Storage, ask: Ask) -> Iterator[str]:
    """Listed data sets without their photos, and versions without their weights or files."""
    for record in ask("GET", "/datasets?limit=100").json["data"]:
        try:
            with DatasetStore(storage).open_images(record["id"]) as file:
                assert zipfile.ZipFile(file).testzip() is None
                assert ask("GET", f"/datasets/{record['id']}/preview").status == 200
        except (LookupError, zipfile.BadZipFile, AssertionError):
            yield f"photos of {record['id']}"
    for model in ask("GET", "/models").json["data"]:
        known = {version["version"] for version in model["versions"]}
        if not known or not known.issuperset(model["aliases"].values()):
            yield f"an alias of {model['name']}"
        for version in known:
            path = f"/models/{model['name']}/versions/{version}"
            card = ask("GET", path).json
            weights = ask("GET", f"{path}/weights").body
            parts = ["samples", *(f"files/{name}" for name in card["files"])]
            statuses = {ask("GET", f"{path}/{part}").status for part in parts}
            if hashlib.sha256(weights).hexdigest() != card["weights_sha256"] or statuses != {200}:
                yield f"files of {path}"


def _restarted(data: Path, promises: list[Promise]) -> list[str]:
    """Start the whole service on what is left; returns the promises that it does not keep."""
    with closing(Service({"VITRINE_DATA_DIR": str(data)})) as service:
        service.wait_until_ready()
        ask = _asking(service.client)
        deadline = time.monotonic() + FINISH_S
        while open_jobs := _open_jobs(ask):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        found = [*(f"{job} has not ended" for job in open_jobs), *_unkept(promises, ask)]
        service.interrupt()
    return found


def _asking(client: TestClient | httpx.Client) -> Ask:
    def ask(method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = client.request(method, path, json=body, headers=headers)
        return Answer(answer.status_code, answer.content)

    return ask


def _open_jobs(ask: Ask) -> list[str]:
    jobs = ask("GET", "/jobs?limit=100").json["data"]
    return [job["id"] for job in jobs if job["finished_at"] is None]
