"""What is written together leaves together."""

import asyncio
from collections.abc import Iterable

from app.coalescing import MOST_HELD, CoalescingTransport


class Sent(asyncio.Transport):
    """A transport that keeps what it is to send, packet by packet."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: list[list[bytes]] = []
        self.closed = False

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        assert not self.closed
        self.packets.append([bytes(data) for data in list_of_data])

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def test_a_head_and_a_body_are_one_packet_and_the_next_answer_another() -> None:
    async def scene() -> None:
        sent = Sent()
        transport = CoalescingTransport(sent, asyncio.get_running_loop())
        transport.write(b"head")
        transport.write(b"body")
        assert sent.packets == []
        transport.flush()
        assert sent.packets == [[b"head", b"body"]]
        transport.write(b"next")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sent.packets == [[b"head", b"body"], [b"next"]]

    asyncio.run(scene())


def test_what_streams_does_not_pile_up() -> None:
    async def scene() -> None:
        sent = Sent()
        transport = CoalescingTransport(sent, asyncio.get_running_loop())
        transport.write(b"head")
        transport.write(bytes(MOST_HELD))
        assert sent.packets == [[b"head", bytes(MOST_HELD)]]

    asyncio.run(scene())


def test_nothing_is_lost_by_closing_and_nothing_is_sent_behind_that() -> None:
    async def scene() -> None:
        sent = Sent()
        transport = CoalescingTransport(sent, asyncio.get_running_loop())
        transport.write(b"last words")
        transport.close()
        assert (sent.packets, transport.is_closing()) == ([[b"last words"]], True)
        transport.write(b"nobody hears this")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sent.packets == [[b"last words"]]

    asyncio.run(scene())
