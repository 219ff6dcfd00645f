"""Mutators that make malformed zips of valid ones, determined by their random generator alone."""

import io
import random
import struct
import zipfile
from functools import cache

from tests.fuzz.pictures import hostile_picture, sound_pictures

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
# Offset and width of every field of fixed size, by the record it is in.
FIELDS: dict[bytes, tuple[tuple[int, int], ...]] = {
    LOCAL: ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    CENTRAL: (
        *((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2)),
        *((30, 2), (32, 2), (38, 4), (42, 4)),
    ),
    END: ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}
EDGES = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
# \1 becomes NUL at the end, where zipfile would have cut the name off.
NAMES = (
    *("../../etc/a.png", "/etc/a.png", "a\\b.png", "C:/a.png", "a/../../b.png", "a//b.png", "a/"),
    *("a/\1.png", "a/\r\n.png", "\u202egnp.a/b.png", "\U0001f457/\u9774.png", "a/" + "x" * 5000),
    *(".", "..", "/", " ", "__MACOSX/a.png", "a/.hidden.png", "a/inner.zip", "\u200b/a.png"),
    *("a/" * 400 + "b.png", "attributes.csv", "a/con.png", "a/\ufeffb.png", "e\u0301/a.png"),
)


@cache
def sound(packing: int = zipfile.ZIP_STORED) -> bytes:
    """A zip that is accepted as an upload."""
    return zipped(sound_pictures(), packing)


def zipped(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with these files, by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)  # with a fixed date: the clock must not change the bytes
            member.compress_type = packing
            archive.writestr(member, content)
    return file.getvalue()


def truncated(chance: random.Random) -> bytes:
    """The beginning of a zip, sometimes with its end record appended."""
    whole = _any_sound(chance)
    kept = whole[: chance.randrange(len(whole))]
    return kept + (whole[whole.rindex(END) :] if chance.random() < 0.3 else b"")


def flipped(chance: random.Random) -> bytes:
    """A zip with a few bits flipped."""
    content = bytearray(_any_sound(chance))
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def directory_scrambled(chance: random.Random) -> bytes:
    """A zip with random bytes in its central directory, which is read first."""
    content = bytearray(_any_sound(chance))
    start = content.index(CENTRAL)
    for _ in range(chance.randint(1, 12)):
        content[chance.randrange(start, len(content))] = chance.randrange(256)
    return bytes(content)


def forged(chance: random.Random) -> bytes:
    """A zip with wrong values in a few header fields."""
    content = bytearray(_any_sound(chance))
    for _ in range(chance.randint(1, 4)):
        signature = chance.choice((LOCAL, CENTRAL, END))
        offset, width = chance.choice(FIELDS[signature])
        at = chance.choice(_occurrences(bytes(content), signature) or [0]) + offset
        value = chance.choice((*EDGES, chance.randrange(2**32))) % 2 ** (8 * width)
        content[at : at + width] = struct.pack("<I", value)[:width]
    return bytes(content)


def spliced(chance: random.Random) -> bytes:
    """A zip with pieces cut out, doubled, swapped and inserted elsewhere."""
    content = _any_sound(chance)
    for _ in range(chance.randint(1, 4)):
        other = _any_sound(chance)
        start, end = sorted(chance.randrange(len(other)) for _ in range(2))
        at = chance.randrange(len(content) + 1)
        gone = chance.choice((0, 0, end - start, chance.randrange(2000)))
        content = content[:at] + other[start:end] + content[at + gone :]
    return content


def badly_named(chance: random.Random) -> bytes:
    """A zip with invalid or dangerous file names, a few of them or all."""
    members = dict(sound_pictures())
    for content in [*members.values()][: chance.randint(1, len(members))]:
        name = chance.choice(NAMES)
        members[name.replace("a", chance.choice("abc\u00e9\u5e3d"))] = content
    if chance.random() < 0.3:
        members = {name: data for name, data in members.items() if name not in sound_pictures()}
    return zipped(members).replace(b"\1.png", b"\0.png")


def bomb(chance: random.Random) -> bytes:
    """A zip that unpacks to far more, holds a zip or many files, or has entries that overlap."""
    match chance.randrange(4):
        case 0:
            size = chance.choice((2**20, 2**22))
            return zipped({f"a/{n}.png": bytes(size) for n in range(3)}, zipfile.ZIP_DEFLATED)
        case 1:
            return zipped({**sound_pictures(), "a/b.png": sound()})
        case 2:
            return zipped({f"a/{n}": b"" for n in range(chance.randint(1, 3000))})
        case _:
            content = bytearray(sound())
            second = chance.choice(_occurrences(bytes(content), CENTRAL))
            first = content.index(CENTRAL)
            content[second + 42 : second + 46] = content[first + 42 : first + 46]
            return bytes(content)


def noise(chance: random.Random) -> bytes:
    """Random bytes, sometimes behind a valid signature."""
    return chance.choice((b"", LOCAL, END, b"\x1f\x8b\x08")) + chance.randbytes(
        chance.randrange(4000)
    )


def with_hostile_pictures(chance: random.Random) -> bytes:
    """A valid zip with pictures that are malformed."""
    members = dict(sound_pictures())
    for name in chance.sample([*members], chance.randint(1, len(members))):
        members[name] = hostile_picture(chance)
    return zipped(members, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _any_sound(chance: random.Random) -> bytes:
    return sound(chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _occurrences(content: bytes, signature: bytes) -> list[int]:
    pieces = content.split(signature)[:-1]
    starts, at = [], 0
    for piece in pieces:
        at += len(piece)
        starts.append(at)
        at += len(signature)
    return starts
