"""PNG encoder: files follow the specification to the letter, and another decoder reads them."""

import io
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from models.imaging.png import encode_png

Pixels = NDArray[np.uint8]

SHAPES = [
    (1, 1, 1),
    (1, 1, 3),
    (1, 7, 1),
    (7, 1, 3),
    (2, 255, 1),
    (33, 17, 3),
    (28, 28, 1),
    (64, 64, 3),
    (37, 20000, 1),
    (1024, 1024, 3),
]
XMP = "<x>\ufeff 靴 & 'socks'</x>".encode()


def noise(shape: tuple[int, ...]) -> Pixels:
    return np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8)


def smooth(shape: tuple[int, ...]) -> Pixels:
    """Compressible, and with every value where there is room for it."""
    return np.array(np.add.reduce(np.indices(shape)) % 256, dtype=np.uint8)


def decoded(data: bytes, shape: tuple[int, ...]) -> Pixels:
    """The pixels of a PNG file, decoded by Pillow."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        assert image.mode == ("L" if shape[2] == 1 else "RGB")
        assert image.size == (shape[1], shape[0])
        return np.asarray(image).reshape(shape)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of each chunk, up to the very last byte of the file."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        assert end + 4 <= len(data)
        assert int.from_bytes(data[end : end + 4]) == zlib.crc32(data[at + 4 : end])
        yield data[at + 4 : at + 8], data[at + 8 : end]
        at = end + 4


def inflated(stream: bytes) -> bytes:
    """A zlib stream with a legal header, a right checksum and nothing after it."""
    assert stream[0] & 0x0F == 8  # deflate
    assert stream[0] >> 4 <= 7  # a window of at most 32 KiB
    assert not stream[1] & 0x20  # no preset dictionary
    inflater = zlib.decompressobj()
    content = inflater.decompress(stream)
    assert inflater.eof
    assert inflater.unused_data == b""
    return content


def unfiltered(content: bytes, shape: tuple[int, ...]) -> Pixels:
    """Lines of "None" and "Up" undone, one by one."""
    height, width, channels = shape
    assert len(content) == height * (1 + width * channels)
    lines = np.frombuffer(content, np.uint8).reshape(height, -1).astype(int)
    assert set(lines[:, 0]) <= {0, 2}
    above = np.zeros(width * channels, dtype=int)
    rows = []
    for line in lines:
        above = (line[1:] + (above if line[0] == 2 else 0)) % 256
        rows.append(above)
    return np.array(rows, dtype=np.uint8).reshape(shape)


@pytest.mark.parametrize("picture", [noise, smooth])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_another_decoder_reads_the_same_pixels(
    shape: tuple[int, ...], picture: Callable[[tuple[int, ...]], Pixels]
) -> None:
    pixels = picture(shape)
    np.testing.assert_array_equal(decoded(encode_png(pixels, XMP), shape), pixels)


@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 3])),
    st.integers(0, 2**32 - 1),
    st.integers(1, 256),
)
def test_any_shape_and_content_survives(
    shape: tuple[int, int, int], seed: int, values: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, values, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(encode_png(pixels), shape), pixels)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_one_colour_survives(value: int) -> None:
    pixels = np.full((256, 256, 3), value, dtype=np.uint8)
    data = encode_png(pixels)
    np.testing.assert_array_equal(decoded(data, pixels.shape), pixels)
    assert len(data) < 2500


@pytest.mark.parametrize("xmp", [b"", XMP], ids=["plain", "with XMP"])
@pytest.mark.parametrize("picture", [noise, smooth])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_file_is_right_to_the_letter(
    shape: tuple[int, ...], picture: Callable[[tuple[int, ...]], Pixels], xmp: bytes
) -> None:
    pixels = picture(shape)
    found = list(chunks(encode_png(pixels, xmp)))
    names = [name for name, _ in found]
    assert names == [b"IHDR", *([b"iTXt"] if xmp else []), b"IDAT", b"IEND"]
    size = shape[1].to_bytes(4) + shape[0].to_bytes(4)
    assert found[0][1] == size + bytes([8, 0 if shape[2] == 1 else 2, 0, 0, 0])
    assert found[-1][1] == b""
    np.testing.assert_array_equal(unfiltered(inflated(found[-2][1]), shape), pixels)


def test_xmp_is_written_as_pillow_writes_it() -> None:
    text, file = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_itxt("XML:com.adobe.xmp", XMP)
    Image.new("L", (1, 1)).save(file, "png", pnginfo=text)
    ours = encode_png(noise((1, 1, 1)), XMP)
    assert dict(chunks(ours))[b"iTXt"] == dict(chunks(file.getvalue()))[b"iTXt"]
    with Image.open(io.BytesIO(ours)) as image:
        assert image.info == {"XML:com.adobe.xmp": XMP.decode(), "xmp": XMP}


@pytest.mark.parametrize("picture", [noise, smooth])
def test_the_same_bytes_each_time(picture: Callable[[tuple[int, ...]], Pixels]) -> None:
    pixels = picture((65, 33, 3))
    assert len({encode_png(pixels.copy(), XMP) for _ in range(20)}) == 1


def test_the_layout_in_memory_does_not_matter() -> None:
    base = noise((40, 30, 3))
    for pixels in (
        base[::-1],
        base[:, ::-1],
        base[::2, 1::3],
        base[:, :, ::-1],
        base[:, :, 1:2],
        base.transpose(1, 0, 2),
        np.asfortranarray(base),
        np.broadcast_to(base[:1, :1], base.shape),
    ):
        assert encode_png(pixels) == encode_png(pixels.copy(order="C"))
        np.testing.assert_array_equal(decoded(encode_png(pixels), pixels.shape), pixels)


def test_pixels_are_only_read() -> None:
    pixels = noise((9, 9, 3))
    before = pixels.copy()
    pixels.flags.writeable = False
    encode_png(pixels)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32, np.bool_])
def test_pixels_of_another_type_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match=f"must be uint8; got {np.dtype(dtype)}"):
        encode_png(np.zeros((4, 4, 3), dtype=dtype))


@pytest.mark.parametrize(
    "shape",
    [(), (4,), (4, 4), (4, 4, 0), (4, 4, 2), (4, 4, 4), (0, 4, 3), (4, 0, 1), (1, 4, 4, 3)],
    ids=str,
)
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 1\) or \(H, W, 3\), not empty; got"):
        encode_png(np.zeros(shape, dtype=np.uint8))
