"""Clients of the service that keep track of what its 2xx answers have promised."""

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx

from tests.fuzz.archives import sound
from tests.receiver import receiving
from tests.service import Service
from worker.registry.bundled_models import SAMPLE_ARCHIVE

FINISH_S = 600.0  # on a busy machine
SETTLED_S = 0.2  # a read may be ahead of the disk by the duration of a sync


class Answer(NamedTuple):
    """A status code and a body."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Ask(Protocol):
    """Sends a request to a service that was started after the power cut."""

    def __call__(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> Answer: ...


@dataclass(frozen=True)
class Promise:
    """What the answer to a request has promised; it replaces earlier ones about the same thing."""

    about: str
    request_id: str
    is_kept: Callable[[Ask], bool]


@dataclass
class Client:
    """A client with things of its own, which sends one request after the other."""

    number: int
    service: httpx.Client
    receiver_url: str
    promises: list[Promise] = field(default_factory=list)
    _requests: int = 0

    @property
    def model(self) -> str:
        """Name of the model that it trains."""
        return f"shoes-{self.number}"

    def run(self) -> None:
        """Do everything that a client can have stored or deleted."""
        dataset = self._upload(SAMPLE_ARCHIVE.read_bytes())
        other = self._upload(sound())
        job = self._train(dataset, promote="production", promote_force=True)
        cancelled = self._train(dataset)
        self._cancel(cancelled)
        bulk = self._submit(
            "generate", {"n": 3, "model": "fashion-mnist", "webhook": {"url": self.receiver_url}}
        )
        self._delete(f"/datasets/{other}")
        self._generate()
        self._point("fashion-mnist", 1)
        for each in (job, bulk):
            self._finish(each)
        self._delivered(bulk)
        self._redeliver(bulk)
        self._versions(dataset)
        self._delete(f"/jobs/{cancelled}")

    def _versions(self, dataset: str) -> None:
        """Make a second version, move an alias to it and back, and delete it."""
        self._finish(self._train(dataset))
        self._point(self.model, 1)
        self._point(self.model, 2)
        path = f"/models/{self.model}/aliases/client-{self.number}"
        self._send("POST", f"{path}/rollback")
        self._promise_alias(self.model, 1)
        self._delete(f"/models/{self.model}/versions/2")

    def _upload(self, archive: bytes) -> str:
        answer = self._send("POST", "/datasets", files={"file": archive})
        path = f"/datasets/{answer.json()['id']}"
        self._promise(path, _reads(path, answer.json()))
        return str(answer.json()["id"])

    def _train(self, dataset: str, **changes: object) -> str:
        sizes = {"resolution": 28, "preset": "fast", "batch_size": 16, "max_images": 64}
        return self._submit("train", {"dataset": dataset, "model": self.model, **sizes, **changes})

    def _submit(self, kind: str, body: dict[str, object]) -> str:
        key = f"{self.number}-{self._requests}"
        made = self._send("POST", f"/jobs/{kind}", json=body, key=key).json()
        path = f"/jobs/{made['id']}"
        self._promise(path, lambda ask: ask("GET", path).json["request"] == made["request"])
        about = " ".join(map(str, ("key of", made["id"], *body.values())))
        self._promise(
            about,
            lambda ask: ask("POST", f"/jobs/{kind}", body, key).json["id"] == made["id"],
        )
        return str(made["id"])

    def _cancel(self, job: str) -> None:
        self._send("POST", f"/jobs/{job}/cancel")
        stopped = ("cancelling", "cancelled")
        path = f"/jobs/{job}"
        self._promise(path, lambda ask: ask("GET", path).json["status"] in stopped)

    def _finish(self, job: str) -> None:
        """Wait until a job has succeeded: its end, its result and its files are promised."""
        path = f"/jobs/{job}"
        self._wait_for(path, "succeeded")
        files = self._send("GET", f"{path}/artifacts").json()["data"]
        ended = self._send("GET", path).json()
        self._promise(path, _reads(path, ended))
        self._promise(f"files of {job}", lambda ask: _has_files(ask, path, files))
        version = ended["result"]["links"]["version"]
        card = self._send("GET", version).json()
        self._promise(version, _reads(version, card))

    def _delivered(self, job: str) -> None:
        path = f"/jobs/{job}/webhook"
        self._wait_for(path, "delivered")
        self._promise(path, _reads(path, self._send("GET", path).json()))

    def _redeliver(self, job: str) -> None:
        path = f"/jobs/{job}/webhook"
        first = self._send("POST", f"{path}/redeliver").json()["attempts"]
        self._promise(path, lambda ask: ask("GET", path).json["attempts"][: len(first)] == first)

    def _generate(self) -> None:
        answer = self._send("POST", "/generate", json={"response_format": "url"})
        [image] = answer.json()["data"]
        path = str(httpx.URL(image["url"]).raw_path, "ascii")
        self._promise(path, lambda ask: _sha256(ask("GET", path).body) == image["sha256"])

    def _point(self, model: str, version: int) -> None:
        alias = f"client-{self.number}"
        self._send("PUT", f"/models/{model}/aliases/{alias}", json={"version": version})
        self._promise_alias(model, version)

    def _promise_alias(self, model: str, version: int) -> None:
        def is_kept(ask: Ask) -> bool:
            aliases = ask("GET", f"/models/{model}").json["aliases"]
            return bool(aliases.get(f"client-{self.number}") == version)

        self._promise(f"alias of {model}", is_kept)

    def _delete(self, path: str) -> None:
        self._send("DELETE", path)
        self._promise(path, lambda ask: ask("GET", path).status == 404)

    def _wait_for(self, path: str, status: str) -> None:
        deadline = time.monotonic() + FINISH_S
        while (found := self.service.get(path).json())["status"] != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.5)
        time.sleep(SETTLED_S)

    def _send(
        self, method: str, path: str, *, key: str | None = None, **content: Any
    ) -> httpx.Response:
        self._requests += 1
        headers = {"X-Request-Id": self._request_id}
        if key is not None:
            headers["Idempotency-Key"] = key
        answer = self.service.request(method, path, headers=headers, **content)
        assert answer.is_success, answer.text
        return answer

    def _promise(self, about: str, is_kept: Callable[[Ask], bool]) -> None:
        """Note what the last answer has promised."""
        self.promises.append(Promise(about, self._request_id, is_kept))

    @property
    def _request_id(self) -> str:
        return f"client-{self.number}-{self._requests}"


def run_clients(count: int, data: Path, environment: dict[str, str]) -> list[list[Promise]]:
    """Run the service with clients at once until all are done; returns each one's promises."""
    settings = {"VITRINE_DATA_DIR": str(data), "VITRINE_WEBHOOK_PRIVATE": "true"}
    environment = {"OMP_NUM_THREADS": "1"} | environment | settings
    with closing(Service(environment)) as service, receiving() as receiver:
        service.wait_until_ready()
        clients = [Client(n, service.client, receiver.url) for n in range(count)]
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(Client.run, clients))
        service.interrupt()
    return [client.promises for client in clients]


def outstanding(promises: list[Promise], answered: set[str]) -> list[Promise]:
    """The promises of one client that hold once these requests were answered.

    The request after them may have been at work, so what it is about is open.
    """
    by_about: dict[str, Promise] = {}
    begun: str | None = None
    for promise in promises:
        if promise.request_id in answered:
            by_about[promise.about] = promise
        elif begun in (None, promise.request_id):
            begun = promise.request_id
            by_about.pop(promise.about, None)
    return [*by_about.values()]


def _reads(path: str, body: object) -> Callable[[Ask], bool]:
    return lambda ask: bool(ask("GET", path).json == body)


def _has_files(ask: Ask, path: str, files: list[dict[str, Any]]) -> bool:
    """Whether a job has these files, as long as they were."""
    found = ask("GET", f"{path}/artifacts").json["data"]
    return bool(found == files) and all(
        len(ask("GET", file["url"]).body) == file["size_bytes"] for file in files
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
