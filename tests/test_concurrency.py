"""Concurrent clients over real HTTP: the same bytes as alone, and no work for disconnected ones."""

import asyncio
import json
import random
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.app.exposition import value
from tests.service import Service

SEEDS = range(5_000_000_000, 5_000_001_000)
CLIENTS = 64
PNG = {"Accept": "image/png"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("service")
    running = Service({"VITRINE_DATA_DIR": str(folder), "VITRINE_LOG_LEVEL": "warning"})
    try:
        running.wait_until_ready()
        yield running
        running.interrupt()
    finally:
        running.close()


def pixels(file: bytes) -> NDArray[np.int64]:
    """The pixels of an image file, as signed numbers."""
    return np.asarray(Image.open(BytesIO(file)), dtype=np.int64)


def others() -> Iterator[dict[str, Any]]:
    """Endless requests of other clients."""
    chance = random.Random(0)
    while True:
        yield {
            "model": chance.choice(["fashion-mnist", "clothing"]),
            "n": chance.choice([1, 1, 1, 2, 5, 16]),
            "truncation": chance.choice([1.0, 0.7]),
            "output_format": chance.choice(["png", "webp", "jpeg"]),
        }


async def among_others(url: str) -> dict[int, bytes]:
    """The image of each seed, while as many other requests are answered."""
    found: dict[int, bytes] = {}
    seeds, disturbing = iter(SEEDS), others()
    # Shorter than the server's keep-alive, so that it never closes a connection being reused.
    limits = httpx.Limits(max_connections=CLIENTS, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def ask() -> None:
            for seed in seeds:
                answer = await client.post("/generate", json={"seed": seed}, headers=PNG)
                found[seed] = answer.raise_for_status().content
                if seed % 8 == 0:
                    other = await client.post("/generate", json=next(disturbing))
                    other.raise_for_status()

        await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    return found


def test_a_thousand_images_are_the_same_bytes_alone_and_among_many(service: Service) -> None:
    together = asyncio.run(among_others(service.url))
    assert len(set(together.values())) > 0.99 * len(SEEDS)
    for seed in SEEDS:
        alone = service.client.post("/generate", json={"seed": seed}, headers=PNG).content
        if alone != together[seed]:  # shows the difference: many pixels, a few, or encoding alone
            np.testing.assert_array_equal(pixels(alone), pixels(together[seed]), f"seed {seed}")
        assert alone == together[seed], seed


def test_a_client_that_leaves_costs_next_to_nothing(service: Service) -> None:
    def generated() -> float:
        text = service.client.get("/metrics").text
        return value(text, "vitrine_generated_images_total", model="clothing", way="sync")

    service.client.post("/generate", json={"model": "clothing"}).raise_for_status()
    before = generated()
    # Takes seconds to encode.
    body = {"model": "clothing", "n": 64, "size": "512x512", "output_format": "avif"}
    content = json.dumps(body).encode()
    head = f"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        time.sleep(0.3)  # the first images are being encoded
    deadline = time.monotonic() + 20
    while value(service.client.get("/metrics").text, "vitrine_generate_waiting_requests") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 0 < generated() - before < 64
    gone = {"method": "POST", "route": "/generate", "status": "499"}
    assert value(service.client.get("/metrics").text, "vitrine_http_requests_total", **gone) == 1
