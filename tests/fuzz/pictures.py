"""Valid pictures, and malformed ones that a decoder has to survive."""

import random
import struct
import zlib
from functools import cache

from tests.models.pictures import noise, saved, two_tone

FORMATS = ("png", "jpeg", "webp", "heif", "avif", "gif", "tiff", "bmp")
FOREIGN = ("jpeg2000", "eps", "ico", "ppm", "tga", "pcx", "sgi")
PNG = b"\x89PNG\r\n\x1a\n"


@cache
def sound_pictures() -> dict[str, bytes]:
    """Files of an upload that is accepted, by name."""
    return {
        f"{category}/{n}.{name}": saved(noise(10 * k + n, (24, 20)), name)
        for k, category in enumerate(("hat", "shoes"))
        for n, name in enumerate(FORMATS)
    }


def hostile_picture(chance: random.Random) -> bytes:
    """A malformed, oversized or unsupported picture."""
    kinds = (_mutated, _mutated, _forged_png, _foreign, _polyglot, _huge)
    return chance.choice(kinds)(chance)


def _mutated(chance: random.Random) -> bytes:
    content = bytearray(_sample(chance))
    for _ in range(chance.randint(1, 30)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content[: chance.choice((len(content), chance.randrange(1, len(content))))])


def _forged_png(chance: random.Random) -> bytes:
    """A PNG whose chunks contradict each other, with correct checksums."""
    sides = [chance.choice((0, 1, 24, 5000, 65535, 2**31 - 1)) for _ in range(2)]
    depth, kind = chance.choice((1, 2, 4, 8, 16, 7)), chance.choice((0, 2, 3, 4, 6, 5))
    header = struct.pack(">IIBBBBB", *sides, depth, kind, 0, 0, chance.choice((0, 1)))
    packed = zlib.compress(bytes(chance.randrange(5000)))
    extra = chance.choice((b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"zTXt", b"acTL", b"fcTL", b"gAMA"))
    return PNG + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", header),
            (extra, chance.choice((b"x\0\0" + packed, chance.randbytes(chance.randrange(60))))),
            (b"IDAT", packed),
            (b"IEND", b""),
        )
    )


def _foreign(chance: random.Random) -> bytes:
    return saved(two_tone(), chance.choice(FOREIGN))


def _polyglot(chance: random.Random) -> bytes:
    return _sample(chance) + chance.choice((b"<?php ?>", b"<script></script>", b"%PDF-1.7"))


def _huge(chance: random.Random) -> bytes:
    """Many pixels in few bytes, within the limit and beyond it."""
    return _flat(chance.choice((3000, 9000)))


@cache
def _flat(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _sample(chance: random.Random) -> bytes:
    return _samples()[chance.randrange(len(_samples()))]


@cache
def _samples() -> tuple[bytes, ...]:
    modes = (("png", "1"), ("png", "P"), ("png", "LA"), ("png", "RGBA"), ("png", "I;16"))
    return (
        *(saved(two_tone(), name) for name in FORMATS),
        *(saved(two_tone().convert("L").convert(mode), name) for name, mode in modes),
        saved(two_tone("CMYK"), "jpeg"),
        saved(two_tone(), "jpeg", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        saved(two_tone(), "webp", lossless=True),
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
