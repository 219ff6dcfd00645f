"""The API, started anew on a data folder that was harmed, and what of it is lost or half there."""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from fastapi.testclient import TestClient

from app.main import create_app
from tests.chaos.promises import Answer, Ask, Promise
from worker.datasets.datasets import DatasetStore
from worker.embedded_valkey import EmbeddedValkey
from worker.registry.bundled_models import register_models
from worker.registry.registry import Registry
from worker.settings import Settings
from worker.storage import Storage


class Restarted(NamedTuple):
    """The API, and its store."""

    ask: Ask
    storage: Storage


@contextmanager
def restarted(data: Path, valkey: EmbeddedValkey) -> Iterator[Restarted]:
    """Start the API in this process, on an embedded service's data folder and an empty Redis."""
    url = f"file://{data / 'objects'}"
    register_models(Registry(Storage.open(url)))
    settings = Settings(
        redis_url=valkey.url,
        storage_url=url,
        webhook_private=True,
        allowed_hosts="testserver",  # as Starlette's TestClient calls it
    )
    app = create_app(settings)
    services = app.state.services
    services.queue.leases.redis.flushall()
    # Not entered, so that no background loop changes anything.
    yield Restarted(asking(TestClient(app, raise_server_exceptions=False)), services.storage)
    services.sampler.batcher.close()
    services.queue.leases.redis.close()
    services.queue.connection.close()


def asking(client: TestClient | httpx.Client) -> Ask:
    """How promises are checked with this client."""

    def ask(method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = client.request(method, path, json=body, headers=headers)
        return Answer(answer.status_code, answer.content)

    return ask


def unkept(promises: Iterable[Promise], ask: Ask) -> Iterator[str]:
    """The promises that are not kept."""
    for promise in promises:
        try:
            kept = promise.is_kept(ask)
        except (LookupError, ValueError):  # an answer of another kind
            kept = False
        if not kept:
            yield f"{promise.about}, promised to {promise.request_id}"


def half_there(api: Restarted) -> Iterator[str]:
    """Listed data sets without their photos, and versions without their weights or files."""
    for record in api.ask("GET", "/datasets?limit=100").json["data"]:
        try:
            with DatasetStore(api.storage).open_images(record["id"]) as file:
                assert zipfile.ZipFile(file).testzip() is None
                assert api.ask("GET", f"/datasets/{record['id']}/preview").status == 200
        except (LookupError, zipfile.BadZipFile, AssertionError):
            yield f"photos of {record['id']}"
    for model in api.ask("GET", "/models").json["data"]:
        known = {version["version"] for version in model["versions"]}
        if not known or not known.issuperset(model["aliases"].values()):
            yield f"an alias of {model['name']}"
        for version in known:
            path = f"/models/{model['name']}/versions/{version}"
            card = api.ask("GET", path).json
            weights = api.ask("GET", f"{path}/weights").body
            parts = ["samples", *(f"files/{name}" for name in card["files"])]
            statuses = {api.ask("GET", f"{path}/{part}").status for part in parts}
            if hashlib.sha256(weights).hexdigest() != card["weights_sha256"] or statuses != {200}:
                yield f"files of {path}"
