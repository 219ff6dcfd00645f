"""Upload bodies for fuzzing: a malformed zip in a valid form, or a valid zip in a bad form."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import archives

BOUNDARY = b"fuzz"
OTHER_TYPES = (b"application/zip", b"application/json", b"text/plain", b"multipart/mixed", b"")
NAMES = (b"\xff\xfe", b"a\0b", b"x" * 5000, b"\r\n\r\n", b"\xf0\x9f\x91\x97")


@dataclass(frozen=True)
class Upload:
    """One body of `POST /datasets`, and its media type."""

    kind: str
    body: bytes
    content_type: bytes = b"multipart/form-data; boundary=" + BOUNDARY


def upload(seed: int, number: int) -> Upload:
    """The input with this number; depends on the seed and the number alone."""
    chance = random.Random(f"{seed} {number}")
    kind = chance.choices([*KINDS], weights=[weight for _, weight in KINDS.values()])[0]
    make = KINDS[kind][0]
    if make is None:
        return _odd_form(chance)
    return Upload(kind, form(make(chance)))


def form(archive: bytes) -> bytes:
    """A multipart body with the zip and a name."""
    return (
        _part(b'name="name"', b"fuzz") + _part(b'name="file"; filename="a.zip"', archive) + _end()
    )


def _odd_form(chance: random.Random) -> Upload:
    kind = "odd multipart"
    body = bytearray(form(archives.sound()))
    match chance.randrange(7):
        case 0:  # random bytes among the first headers and boundaries
            for _ in range(chance.randint(1, 6)):
                body[chance.randrange(220)] = chance.randrange(256)
            return Upload(kind, bytes(body))
        case 1:
            return Upload(kind, bytes(body[: chance.randrange(len(body))]))
        case 2:
            wrong = (b"", b"; boundary=", b"; boundary=other", b"; boundary=" + b"x" * 300)
            return Upload(kind, bytes(body), b"multipart/form-data" + chance.choice(wrong))
        case 3:
            types = (
                b"application/zip",
                b"application/json",
                b"text/plain",
                b"multipart/mixed",
                b"",
            )
            return Upload(kind, bytes(body), chance.choice(types))
        case 4:
            names = (b'name="other"', b"", b'name="file"', b'filename="a"', b'name="name"')
            parts = [_part(chance.choice(names), b"x" * chance.randrange(9)) for _ in range(3)]
            return Upload(kind, b"".join(parts) + _end())
        case 5:
            many = chance.choice((2, 30, 1200))
            return Upload(kind, _part(b'name="file"; filename="a"', b"x") * many + _end())
        case _:
            name = chance.choice(
                (b"\xff\xfe", b"a\0b", b"x" * 5000, b"\r\n\r\n", b"\xf0\x9f\x91\x97")
            )
            return Upload(kind, _part(b'name="name"', name) + form(archives.sound()))


def _part(disposition: bytes, content: bytes) -> bytes:
    header = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + disposition
    return header + b"\r\n\r\n" + content + b"\r\n"


def _end() -> bytes:
    return b"--" + BOUNDARY + b"--\r\n"


Make = Callable[[random.Random], bytes]
# The weights follow the cost of an input: one with a valid directory needs a decoding process.
KINDS: dict[str, tuple[Make | None, int]] = {
    "truncated": (archives.truncated, 10),
    "bits flipped": (archives.flipped, 10),
    "directory scrambled": (archives.directory_scrambled, 16),
    "headers forged": (archives.forged, 16),
    "spliced": (archives.spliced, 10),
    "bad names": (archives.badly_named, 8),
    "bombs": (archives.bomb, 8),
    "noise": (archives.noise, 4),
    "hostile pictures": (archives.with_hostile_pictures, 8),
    "odd multipart": (None, 10),
}
