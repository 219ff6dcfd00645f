"""Uploads that are refused by their head: without a key, without its scope, or over the limit.

Whatever the body, the service answers without reading it and keeps nothing of it.
"""

import random
import select
import time
from collections import Counter
from dataclasses import dataclass, field

from app.keys import entry
from tests.fuzz.campaign import LEFT_WITHIN_S, Target
from tests.fuzz.requests import Upload, upload
from tests.processes import resident_bytes
from tests.wire import DEADLINE_S, connect, status

SHOP = "shop"
KEYS = ("", "Bearer wrong", f"Bearer {SHOP}", "Basic b3duZXI=")
REFUSALS = (401, 403, 429)
BROKEN_OFF = 0  # in place of a status: the connection was reset before the answer was read
MIB = 2**20
SENT_BYTES = 32 * MIB  # as the head says; far more than both ends buffer
MOST_TAKEN_BYTES = 12 * MIB
MOST_GROWTH_BYTES = 20 * MIB


@dataclass
class Refused:
    """Results of the refused uploads."""

    answers: Counter[int] = field(default_factory=Counter)  # by status
    most_taken_bytes: int = 0  # of one body, by the service or a buffer
    slowest_s: float = 0.0
    growth_bytes: int = 0
    complaints: list[str] = field(default_factory=list)


def settings(uploads: int) -> dict[str, str]:
    """Settings with a key, and a rate limit that lets a part of the uploads reach its check."""
    limit = f"{max(1, uploads // 10)}/day"
    return {"VITRINE_API_KEY_HASHES": entry(SHOP, ["generate"]), "VITRINE_RATE_LIMIT": limit}


def send_refused(aim: Target, seed: int, numbers: range) -> Refused:
    """Send uploads that are refused by their head."""
    result, before = Refused(), resident_bytes(aim.pid)
    for number in numbers:
        chance = random.Random(f"{seed} {number}")
        key = chance.choice(KEYS)
        began = time.monotonic()
        found, taken = _send(aim, upload(seed, number), key)
        result.slowest_s = max(result.slowest_s, time.monotonic() - began)
        result.answers[found] += 1
        result.growth_bytes = max(result.growth_bytes, resident_bytes(aim.pid) - before)
        if found in (*REFUSALS, BROKEN_OFF):
            result.most_taken_bytes = max(result.most_taken_bytes, taken)
        else:
            result.complaints.append(f"input {number} with {key!r}: status {found}")
    if result.most_taken_bytes > MOST_TAKEN_BYTES:
        result.complaints.append(f"{result.most_taken_bytes} bytes of a body were taken")
    if result.growth_bytes > MOST_GROWTH_BYTES:
        result.complaints.append(f"the API grew by {result.growth_bytes / MIB:.0f} MiB")
    deadline = time.monotonic() + LEFT_WITHIN_S
    while (left := aim.left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    result.complaints += [f"left behind: {path}" for path in left[:5]]
    return result


def _send(aim: Target, sent: Upload, key: str) -> tuple[int, int]:
    """Send the upload and as many zeroes as the head promises; the status, and what was taken."""
    head = [
        "POST /datasets HTTP/1.1",
        f"Host: 127.0.0.1:{aim.port}",
        f"Content-Type: {sent.content_type.decode()}",
        f"Content-Length: {SENT_BYTES}",
        *([f"Authorization: {key}"] if key else []),
    ]
    content = memoryview(sent.body + bytes(SENT_BYTES - len(sent.body)))
    taken = 0
    with connect(aim.port) as wire:
        wire.sendall("\r\n".join([*head, "", ""]).encode())
        try:
            while taken < SENT_BYTES:
                readable, writable, _ = select.select([wire], [wire], [], DEADLINE_S)
                if readable or not writable:
                    break
                wire.setblocking(False)
                taken += wire.send(content[taken : taken + 65536])
            wire.settimeout(DEADLINE_S)
            return status(wire), taken
        except ConnectionError:
            return BROKEN_OFF, taken
