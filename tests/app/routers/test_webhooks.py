"""Webhook routes: refused targets, deliveries and their status, redelivery."""

import time
from typing import Any

import pytest
import standardwebhooks
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.webhooks.delivery_loop import DeliveryTiming
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.receiver import Receiver, receiving
from worker.registry.bundled_models import SAMPLE_DATASET, add_sample_dataset
from worker.storage import Storage
from worker.webhooks.targets import WebhookTargets

UNKNOWN = "job_00000000000000000000"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A service that may send webhooks to private addresses, and polls often."""
    client = serve(webhook_private=True)
    app = client.app
    assert isinstance(app, FastAPI)
    app.state.services.webhooks.timing = DeliveryTiming(poll_s=0.2)
    return client


@pytest.fixture
def dataset_id(storage: Storage) -> str:
    """The sample data set, without a second service that would also deliver webhooks."""
    add_sample_dataset(storage)
    return SAMPLE_DATASET


@pytest.fixture
def strict(serve: Serve) -> TestClient:
    """A service that sends webhooks to public addresses only."""
    return serve()


def submit(client: TestClient, dataset_id: str, webhook: object) -> Any:
    body = {"dataset": dataset_id, "model": "shoes", "batch_size": 8, "webhook": webhook}
    return client.post("/jobs/train", json=body)


def cancelled(client: TestClient, dataset_id: str, receiver: Receiver, **webhook: object) -> str:
    """A job that has ended."""
    response = submit(client, dataset_id, {"url": receiver.url, **webhook})
    assert response.status_code == 202, response.text
    assert client.post(f"{response.headers['location']}/cancel").status_code == 202
    return str(response.json()["id"])


def wait_for(client: TestClient, job_id: str, status: str, attempts: int = 1) -> dict[str, Any]:
    deadline = time.monotonic() + 15
    while True:
        delivery: dict[str, Any] = client.get(f"/jobs/{job_id}/webhook").json()
        if delivery["status"] == status and len(delivery["attempts"]) >= attempts:
            return delivery
        assert time.monotonic() < deadline, delivery
        time.sleep(0.05)


def test_a_cancelled_job_is_announced_as_it_reads(client: TestClient, dataset_id: str) -> None:
    with receiving() as receiver:
        job_id = cancelled(client, dataset_id, receiver)
        delivery = wait_for(client, job_id, "delivered")
        secrets = client.get("/webhooks/secret")
    [received] = receiver.received
    assert secrets.headers["cache-control"] == "no-store"
    [secret] = secrets.json()["secrets"]
    job = standardwebhooks.Webhook(secret).verify(received.body, received.headers)
    assert job == client.get(f"/jobs/{job_id}").json()
    assert job["links"]["webhook"] == f"/jobs/{job_id}/webhook"
    assert job["request"]["webhook"] == {
        "url": receiver.url, "events": ["succeeded", "failed", "cancelled"],
    }  # fmt: skip
    assert delivery["webhook_id"] == received.headers["webhook-id"]
    assert delivery["url"] == receiver.url
    assert delivery["next_attempt_at"] is None
    [attempt] = delivery["attempts"]
    assert set(attempt) == {"at", "status_code", "error"}
    assert (attempt["status_code"], attempt["error"]) == (200, None)


def test_a_redelivery_is_sent_at_once_with_the_same_id(client: TestClient, dataset_id: str) -> None:
    with receiving(500, 200) as receiver:
        job_id = cancelled(client, dataset_id, receiver)
        delivery = wait_for(client, job_id, "pending")
        assert delivery["attempts"][0]["status_code"] == 500
        assert delivery["next_attempt_at"] is not None
        answer = client.post(f"/jobs/{job_id}/webhook/redeliver")
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")
        wait_for(client, job_id, "delivered", attempts=2)
        assert client.post(f"/jobs/{job_id}/webhook/redeliver").status_code == 202
        wait_for(client, job_id, "delivered", attempts=3)
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1


def test_each_configured_secret_signs(serve: Serve) -> None:
    client = serve(webhook_private=True, webhook_secret=f"{SECRET},{OLD_SECRET}")
    assert client.get("/webhooks/secret").json() == {"secrets": [SECRET, OLD_SECRET]}


def test_a_job_that_has_not_ended_has_nothing_to_send_yet(
    client: TestClient, dataset_id: str
) -> None:
    with receiving() as receiver:
        job_id = submit(client, dataset_id, {"url": receiver.url}).json()["id"]
        delivery = client.get(f"/jobs/{job_id}/webhook").json()
        assert (delivery["status"], delivery["attempts"]) == ("pending", [])
        assert delivery["next_attempt_at"] is None
        problem = assert_problem(
            client.post(f"/jobs/{job_id}/webhook/redeliver"), 409, "nothing_announced"
        )
        assert "queued" in problem["detail"]


def test_a_job_whose_end_is_not_announced_says_so(client: TestClient, dataset_id: str) -> None:
    with receiving() as receiver:
        job_id = cancelled(client, dataset_id, receiver, events=["failed", "succeeded"])
        problem = assert_problem(
            client.post(f"/jobs/{job_id}/webhook/redeliver"), 409, "nothing_announced"
        )
        assert (
            problem["detail"] == "the job is cancelled; its webhook is told of: failed, succeeded"
        )
        assert_problem(client.get(f"/jobs/{job_id}/webhook"), 404, "webhook_not_found")
    assert receiver.received == []


def test_a_job_without_a_webhook_has_none(client: TestClient, dataset_id: str) -> None:
    job_id = submit(client, dataset_id, None).json()["id"]
    for response in (
        client.get(f"/jobs/{job_id}/webhook"),
        client.post(f"/jobs/{job_id}/webhook/redeliver"),
    ):
        assert_problem(response, 404, "webhook_not_found")
    assert_problem(client.get(f"/jobs/{UNKNOWN}/webhook"), 404, "job_not_found")
    assert_problem(client.post(f"/jobs/{UNKNOWN}/webhook/redeliver"), 404, "job_not_found")


def test_a_malformed_webhook_is_refused(strict: TestClient, dataset_id: str) -> None:
    there = "https://8.8.8.8/"
    for webhook in (
        *(there, [], {}, {"url": None}, {"url": 1}, {"url": ""}, {"url": "shop.example"}),
        *({"url": there, "events": events} for events in ([], ["queued"], "failed", None)),
        {"url": there, "events": ["failed", "failed"]},
        {"url": there, "secret": "mine"},
        {"url": "https://me:secret@8.8.8.8/"},
        {"url": f"{there}#here"},
        {"url": there + "a" * 2048},
    ):
        problem = assert_problem(submit(strict, dataset_id, webhook), 422, "invalid_request")
        assert "webhook" in problem["detail"], webhook


def test_a_webhook_to_where_it_must_not_go_is_refused(strict: TestClient, dataset_id: str) -> None:
    hosts = (
        *("127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f.1", "017700000001", "0"),
        *("0.0.0.0", "localhost", "localhost.", "LOCALHOST", "①②⑦.0.0.1", "127.0.0.1:8000"),
        *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254"),
        *("168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a00:1]", "[fe80::1]", "[fd00::1]"),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[ff02::1]"),
    )
    refused = [(f"https://{host}/hook", "public address") for host in hosts]
    refused += [(f"http://{host}/hook", "https://") for host in ("8.8.8.8", "127.0.0.1")]
    unknown = ("no-such-host.invalid", "a..b", f"{'a' * 64}.example")
    refused += [(f"https://{host}/hook", "cannot be resolved") for host in unknown]
    for url, says in refused:
        response = submit(strict, dataset_id, {"url": url})
        assert response.status_code == 422, url
        assert says in assert_problem(response, 422, "webhook_refused")["detail"], url
    assert strict.get("/jobs").json()["data"] == []


def test_a_name_that_becomes_private_after_the_job_was_taken_is_told_nothing(
    strict: TestClient, dataset_id: str
) -> None:
    app = strict.app
    assert isinstance(app, FastAPI)
    answers = [["93.184.216.34"]]
    rebinding = WebhookTargets(
        private=False, lookup=lambda _host, _port: answers.pop() if answers else ["127.0.0.1"]
    )
    app.state.services.queue.targets = app.state.services.webhooks.sender.targets = rebinding
    with receiving() as receiver:
        url = f"https://rebinding.example:{receiver.server_port}/hook"
        response = submit(strict, dataset_id, {"url": url})
        assert response.status_code == 202, response.text
        job_id = response.json()["id"]
        strict.post(f"/jobs/{job_id}/cancel")
        delivery = wait_for(strict, job_id, "pending")
    [attempt] = delivery["attempts"]
    assert (attempt["status_code"], attempt["error"]) == (None, "not a public address")
    assert receiver.received == []


def test_a_name_server_that_hangs_does_not_hold_up_a_client(
    strict: TestClient, dataset_id: str
) -> None:
    app = strict.app
    assert isinstance(app, FastAPI)

    def hang(_host: str, _port: int) -> list[str]:
        time.sleep(2)
        return []

    app.state.services.queue.targets = WebhookTargets(private=False, lookup=hang, timeout_s=0.2)
    started = time.monotonic()
    response = submit(strict, dataset_id, {"url": "https://shop.example/"})
    assert_problem(response, 422, "webhook_refused")
    assert time.monotonic() - started < 1.5
