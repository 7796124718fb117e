"""Guards decoding: PIL's pixels, eagerly and in a graph, and errors for all other files."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.data import header
from cvpipe.data.decode import decode_image
from image_files import BAD, black_png, chunk, claiming, encode, noise, smooth

RGB, RGBA, GRAY = noise(7, 5), noise(7, 5, 4), noise(7, 5, 1)
SMOOTH = smooth(24, 34)


def bmp_with_masks(*masks: int, header: int = 56, bits: int = 32) -> bytes:
    """Return RGB as a BMP whose masks state the bits of red, green and blue in a pixel."""
    pixels = np.zeros(RGB.shape[:2], np.uint32)
    # Masks of zeros mean the usual order of channels.
    for channel, mask in enumerate(masks if any(masks) else (0xFF0000, 0xFF00, 0xFF)):
        lowest = (mask & -mask).bit_length() - 1
        pixels |= (RGB[..., channel].astype(np.uint32) << lowest) & mask
    rows = [row.astype(f"<u{bits // 8}").tobytes() for row in pixels[::-1]]
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    height, width = RGB.shape[:2]
    fields = struct.pack(
        "<IiiHHIIiiII", header, width, height, 1, bits, 3, len(body), 2835, 2835, 0, 0
    )
    fields = (fields + struct.pack("<III", *masks)).ljust(header, b"\0")
    begin = 14 + len(fields)
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + fields + body


def without_adobe(jpeg: bytes) -> bytes:
    """The JPEG without the segment by which Adobe marks inverted colors."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


LOSSLESS = {
    "PNG": encode(RGB, "PNG"),
    "PNG gray": encode(GRAY, "PNG"),
    "PNG palette": encode(RGB, "PNG", "P"),
    "PNG palette alpha": encode(RGB, "PNG", "P", transparency=0),
    "PNG one bit": encode(RGB, "PNG", "1"),
    "PNG alpha": encode(RGBA, "PNG"),
    "PNG gray alpha": encode(RGB, "PNG", "LA"),
    "PNG one pixel": encode(noise(1, 1), "PNG"),
    "BMP": encode(RGB, "BMP"),
    "BMP gray": encode(GRAY, "BMP"),
    "BMP palette": encode(RGB, "BMP", "P"),
    "BMP few colors": encode(np.repeat(noise(1, 5), 7, 0), "BMP", "P"),
    "BMP alpha": encode(RGBA, "BMP"),
    "BMP masks RGBA": bmp_with_masks(0xFF, 0xFF00, 0xFF0000),
    "BMP masks ABGR": bmp_with_masks(0xFF000000, 0xFF0000, 0xFF00),
    "BMP masks of zeros": bmp_with_masks(0, 0, 0),
    "BMP masks, long header": bmp_with_masks(0xFF, 0xFF00, 0xFF0000, header=124),
    "WebP lossless": encode(RGB, "WEBP", lossless=True),
    "WebP lossless alpha": encode(RGBA, "WEBP", lossless=True, exact=True),
    "WebP one pixel": encode(noise(1, 1), "WEBP", lossless=True),
}
LOSSY = {
    "JPEG": encode(SMOOTH, "JPEG", quality=95),
    "JPEG gray": encode(SMOOTH[..., :1], "JPEG"),
    "JPEG CMYK": encode(SMOOTH, "JPEG", "CMYK"),
    "JPEG CMYK without Adobe's mark": without_adobe(encode(SMOOTH, "JPEG", "CMYK")),
    "JPEG progressive": encode(SMOOTH, "JPEG", progressive=True),
    "WebP": encode(SMOOTH, "WEBP"),
    "WebP alpha": encode(np.dstack([SMOOTH, SMOOTH[..., 0]]), "WEBP"),
}


def top_down(bmp: bytes, row_bytes: int) -> bytes:
    """Return the same image with its top row first, marked by a negative height."""
    begin = struct.unpack("<i", bmp[10:14])[0]
    height = struct.unpack("<i", bmp[22:26])[0]
    rows = [bmp[at : at + row_bytes] for at in range(begin, len(bmp), row_bytes)]
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:begin] + b"".join(reversed(rows))


@pytest.fixture(scope="module", params=[1, 3], ids=["to gray", "to RGB"])
def channels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def in_graph(channels: int) -> dict[str, np.ndarray]:
    """Decode all good files inside one Dataset."""
    files = {**LOSSLESS, **LOSSY}
    decoded = tf.data.Dataset.from_tensor_slices(list(files.values())).map(
        lambda encoded: decode_image(encoded, channels)
    )
    assert decoded.element_spec.shape.as_list() == [None, None, channels]
    return dict(zip(files, decoded.as_numpy_iterator()))


def eagerly(encoded: bytes, channels: int) -> np.ndarray:
    return decode_image(tf.constant(encoded), channels).numpy()


def by_pil(encoded: bytes, channels: int) -> np.ndarray:
    """Return PIL's pixels [H, W, channels] as signed integers, which can be subtracted."""
    # PIL can't read the masks of these BMPs; their pixels are those of RGB.
    refused = encoded in (LOSSLESS["BMP masks RGBA"], LOSSLESS["BMP masks, long header"])
    image = Image.fromarray(RGB) if refused else Image.open(io.BytesIO(encoded)).convert("RGB")
    return (
        np.asarray(image if channels == 3 else image.convert("L"))
        .reshape(image.height, image.width, channels)
        .astype(int)
    )


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_have_the_pixels_that_pil_finds(
    name: str, channels: int, in_graph: dict[str, np.ndarray]
) -> None:
    expected = by_pil(LOSSLESS[name], channels)
    # Colors are equal; gray computed from three colors may differ by rounding.
    for pixels in (eagerly(LOSSLESS[name], channels), in_graph[name]):
        assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
        assert abs(pixels - expected).max() <= (0 if channels == 3 or "gray" in name else 1)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_files_have_the_pixels_that_pil_finds_except_for_rounding(
    name: str, channels: int, in_graph: dict[str, np.ndarray]
) -> None:
    expected = by_pil(LOSSY[name], channels)
    for pixels in (eagerly(LOSSY[name], channels), in_graph[name]):
        assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
        assert abs(pixels - expected).max() <= 2


@pytest.mark.parametrize("stored", [1, 2, 3, 4])
def test_16_bits_are_rounded_to_8(stored: int, channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 5, 1), dtype=np.uint16)
    encoded = tf.io.encode_png(np.repeat(deep, stored, -1)).numpy()
    assert abs(eagerly(encoded, channels) - deep / 257).max() <= 1


@pytest.mark.parametrize(
    "name, row_bytes", [("BMP", 16), ("BMP gray", 8), ("BMP palette", 8), ("BMP alpha", 20)]
)
def test_bmp_with_its_top_row_first_is_the_same_image(
    name: str, row_bytes: int, channels: int
) -> None:
    np.testing.assert_array_equal(
        eagerly(top_down(LOSSLESS[name], row_bytes), channels), eagerly(LOSSLESS[name], channels)
    )


@pytest.mark.parametrize(
    "gamma", [chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"sRGB", b"\0")], ids=["gAMA", "sRGB"]
)
def test_a_pngs_gray_does_not_depend_on_its_gamma(gamma: bytes) -> None:
    encoded = LOSSLESS["PNG"]
    # Chunks before the pixels follow the header, which ends at byte 33.
    np.testing.assert_array_equal(
        eagerly(encoded[:33] + gamma + encoded[33:], 1), eagerly(encoded, 1)
    )


def test_the_same_pixels_have_the_same_gray_in_every_format() -> None:
    grays = [
        eagerly(encode(SMOOTH, kind, **options), 1)
        for kind, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}))
    ]
    for gray in grays[1:]:
        np.testing.assert_array_equal(gray, grays[0])
    assert abs(eagerly(encode(SMOOTH, "JPEG", quality=100), 1).astype(int) - grays[0]).max() <= 2


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_a_valid_image_is_refused(name: str, channels: int) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        eagerly(BAD[name], channels)


def test_a_file_that_is_not_a_valid_image_is_refused_in_a_graph(channels: int) -> None:
    decoded = tf.data.Dataset.from_tensor_slices(list(BAD.values())).map(
        lambda encoded: decode_image(encoded, channels)
    )
    assert list(decoded.ignore_errors()) == []


def test_an_animation_is_refused() -> None:
    frames = [Image.fromarray(noise(6, 6, seed=seed)) for seed in range(3)]
    for kind in ("GIF", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        with pytest.raises(tf.errors.InvalidArgumentError, match="GIF|animation"):
            eagerly(file.getvalue(), 3)


NARROW = {
    "ten bits": (bmp_with_masks(0x3FF00000, 0xFFC00, 0x3FF), "channels aren't whole bytes"),
    "16 bits": (bmp_with_masks(0xF800, 0x7E0, 0x1F, bits=16), "a BMP with"),
    "one bit": (encode(RGB, "BMP", "1"), "a BMP with"),
    "a short header": (
        b"BM" + struct.pack("<IHHIIHHHH", 60, 0, 0, 26, 12, 5, 7, 1, 24) + bytes(200),
        "a compressed or very old kind of BMP",
    ),
}


@pytest.mark.parametrize("name", NARROW)
def test_the_error_of_an_unsupported_bmp_names_its_kind(name: str, channels: int) -> None:
    encoded, message = NARROW[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        eagerly(encoded, channels)


CLAIMS = ["JPEG", "BMP", "BMP palette", "WebP", "WebP lossless", "WebP alpha"]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_header_that_claims_too_many_pixels_is_refused_for_that(name: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="the header says"):
        eagerly(claiming({**LOSSLESS, **LOSSY}[name], 16_000, 8_000), 3)


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_the_exact_size_is_read_from_every_header(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = {**LOSSLESS, **LOSSY}[name]
    height, width, _ = by_pil(encoded, 3).shape
    monkeypatch.setattr(header, "MAX_PIXELS", height * width)
    assert eagerly(encoded, 3).shape == (height, width, 3)
    monkeypatch.setattr(header, "MAX_PIXELS", height * width - 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the header says"):
        eagerly(encoded, 3)


def test_a_sound_png_with_too_many_pixels_is_refused() -> None:
    assert eagerly(black_png(300, 200), 1).shape == (200, 300, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the header says"):
        eagerly(black_png(20_000, 6_000), 1)


def test_a_file_with_too_many_bytes_is_refused_before_its_header_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = LOSSLESS["PNG"]
    monkeypatch.setattr(header, "MAX_BYTES", len(encoded))
    assert eagerly(encoded, 3).shape == RGB.shape
    for too_long in (
        encoded + b"x",
        claiming(LOSSLESS["BMP"], 20_000, 20_000) + bytes(len(encoded)),
    ):
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match="the file has more than the .* bytes that are allowed",
        ):
            eagerly(too_long, 3)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-5, 5), (2**31 - 1, 2**31 - 1), (5, -(2**31))])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="the header says"):
        eagerly(claiming(LOSSLESS["BMP"], *size), 3)


@pytest.mark.parametrize("name", ["JPEG", "PNG palette", "BMP palette", "WebP", "WebP lossless"])
def test_damage_anywhere_gives_an_image_or_an_error(name: str) -> None:
    encoded, random = {**LOSSLESS, **LOSSY}[name], np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(encoded)
        damaged[random.integers(len(encoded))] = random.integers(256)
        damaged = damaged[: random.integers(10, 2 * len(encoded))]
        try:
            assert eagerly(bytes(damaged), 3).dtype == np.uint8
        except tf.errors.InvalidArgumentError:
            refused += 1
    assert refused > 0
