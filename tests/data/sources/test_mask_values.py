"""Guards the labels of mask pixels: every kind of PNG, and every value without a class."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from cvpipe.config.mask_sources import Masks
from cvpipe.data.sources.mask_values import labels_of, values_of_colors, values_of_indices
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED
from image_files import BAD, black_png, chunk, encode, smooth

LABELS = np.random.default_rng(0).integers(0, 3, (17, 23), dtype=np.uint8)
LABELS[3:5, 2:9] = IGNORED
COLORS = {"sea": "#0000ff", "land": "#228B22", "sand": "#FEDD3A"}
TABLE = np.zeros([256, 3], np.uint8)
TABLE[[0, 1, 2, 255]] = [[0, 0, 255], [0x22, 0x8B, 0x22], [0xFE, 0xDD, 0x3A], [9, 9, 9]]


def section(colors: bool, **settings: Any) -> Masks:
    classes = tuple(
        {"name": name, **({"color": color} if colors else {})} for name, color in COLORS.items()
    )
    values = {
        "kind": "masks",
        "path": "x",
        "train": [{"images": "a", "masks": "b"}],
        "classes": classes,
        **settings,
    }
    return Masks.model_validate(values)


BY_COLOR = values_of_colors(section(True, ignore_colors=("#090909",)))
BY_INDEX = values_of_indices(tuple(COLORS), (255,))


def png(values: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(file, "PNG", **options)
    return file.getvalue()


def palette_png(indices: np.ndarray, table: np.ndarray, **options: Any) -> bytes:
    picture, file = Image.fromarray(indices), io.BytesIO()
    picture.putpalette(table.tobytes())
    picture.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "encoded",
    [
        png(TABLE[LABELS]),
        png(TABLE[LABELS], "RGBA"),
        encode(TABLE[LABELS], "BMP"),
        encode(TABLE[LABELS], "WEBP", lossless=True),
        palette_png(LABELS, TABLE),
        palette_png(255 - LABELS, TABLE[::-1].copy()),
        palette_png(LABELS, TABLE, transparency=0),
    ],
    ids=["RGB", "RGBA", "BMP", "WebP", "palette", "other palette", "transparent"],
)
def test_colors_become_labels_in_every_kind_of_picture(encoded: bytes) -> None:
    labels = labels_of(encoded, BY_COLOR)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[..., 0], LABELS)


@pytest.mark.parametrize(
    "encoded",
    [
        png(LABELS),
        palette_png(LABELS, TABLE),
        palette_png(LABELS, 255 - TABLE),
        png(LABELS.astype(np.uint16)),
        encode(LABELS[..., None], "BMP"),
    ],
    ids=["gray", "palette", "other palette", "16 bits", "BMP"],
)
def test_indices_are_labels_with_any_colors_in_a_palette(encoded: bytes) -> None:
    np.testing.assert_array_equal(labels_of(encoded, BY_INDEX)[..., 0], LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_indices_of_few_bits_are_not_stretched(bits: int) -> None:
    labels = LABELS % 2 if bits == 1 else LABELS % 3
    # Pillow can't write gray of two or four bits, so a palette PNG's header is changed to gray.
    encoded = (
        png(labels.astype(bool)) if bits == 1 else palette_png(labels, TABLE[: 2**bits], bits=bits)
    )
    if bits > 1:
        encoded = as_gray(encoded)
        assert Image.open(io.BytesIO(encoded)).mode == "L"
    np.testing.assert_array_equal(labels_of(encoded, BY_INDEX)[..., 0], labels)


def as_gray(encoded: bytes) -> bytes:
    """Return a palette PNG with gray in its header; decoders then ignore the palette."""
    from image_files import chunk

    header = bytearray(encoded[16:29])
    header[9] = 0
    palette = encoded.index(b"PLTE") - 4
    end = palette + 12 + int.from_bytes(encoded[palette : palette + 4], "big")
    return encoded[:8] + chunk(b"IHDR", bytes(header)) + encoded[33:palette] + encoded[end:]


def test_indices_may_begin_anywhere_and_many_may_be_ignored() -> None:
    known = values_of_indices(("pet", "background"), (3, 1000), first=1)
    values = np.array([[1, 2, 3, 1000]], np.uint16)
    assert labels_of(png(values), known)[0, :, 0].tolist() == [0, 1, IGNORED, IGNORED]
    with pytest.raises(
        DataError,
        match=(
            r"a value that no class has: 0, 25.00% of the pixels. .*ignore_indices: \[3, 1000, 0\]"
        ),
    ):
        labels_of(png(np.array([[0, 1, 2, 1]], np.uint16)), known)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_beside_gray_is_ignored(alpha: int) -> None:
    encoded = png(np.dstack([LABELS, np.full_like(LABELS, alpha)]))
    assert Image.open(io.BytesIO(encoded)).mode == "LA"
    np.testing.assert_array_equal(labels_of(encoded, BY_INDEX)[..., 0], LABELS)


def test_gray_of_16_bits_with_alpha_is_refused_by_name() -> None:
    rows = b"".join(b"\0" + bytes(4 * 3) for _ in range(2))
    header = struct.pack(">IIBBBBB", 3, 2, 16, 4, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    encoded = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)
    with pytest.raises(DataError, match="16-bit gray values and alpha, which can't be read; save"):
        labels_of(encoded, BY_INDEX)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_is_rotated_by_its_own_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = np.rot90(LABELS, 2 if orientation == 3 else -1)
    np.testing.assert_array_equal(labels_of(png(LABELS, exif=exif), BY_INDEX)[..., 0], turned)


def test_a_mask_without_labels_is_fine() -> None:
    assert (labels_of(png(np.full([4, 4], 255, np.uint8)), BY_INDEX) == IGNORED).all()
    assert (labels_of(png(np.full([4, 4, 3], 9, np.uint8)), BY_COLOR) == IGNORED).all()


def test_255_classes_can_be_distinguished() -> None:
    known = values_of_indices([str(number) for number in range(255)], (255,))
    assert labels_of(png(np.arange(256, dtype=np.uint8)[None]), known).ravel().tolist() == list(
        range(256)
    )


def test_unknown_colors_are_listed_with_shares_the_nearest_class_and_what_to_write() -> None:
    colors = TABLE[LABELS % 3]
    colors[0, :], colors[1, :3] = (0, 0, 0), (0xFE, 0xDD, 0x3B)
    with pytest.raises(DataError) as error:
        labels_of(png(colors), BY_COLOR)
    assert (
        str(error.value)
        == "the mask has 2 colors that no class has: #000000, 5.88% of the pixels (nearest: land,"
        " #228B22); #FEDD3B, 0.77% of the pixels (nearest: sand, #FEDD3A). Give each its class"
        " in data.source.classes, or set data.source.ignore_colors: ['#090909', '#000000',"
        " '#FEDD3B']"
    )


def test_a_value_of_16_bits_that_does_not_fit_is_named() -> None:
    values = LABELS.astype(np.uint16)
    values[0, 5] = 4096
    with pytest.raises(
        DataError, match="a value that no class has: 4096, 0.26% of the pixels. Name more classes"
    ):
        labels_of(png(values), BY_INDEX)


def test_the_error_of_masks_saved_with_loss_names_the_cause_and_few_colors() -> None:
    with pytest.raises(
        DataError, match=r"; and [0-9,]+ more. This many come from lossy compression, as in JPEG"
    ) as error:
        labels_of(encode(TABLE[np.kron(LABELS, np.ones((4, 4), np.uint8))], "JPEG"), BY_COLOR)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "encoded, known, message",
    [
        (
            png(TABLE[LABELS]),
            BY_INDEX,
            (
                r"the mask has colors \(RGB\), but no class of the pipeline has a color: give each"
                r" class its color"
            ),
        ),
        (
            png(LABELS),
            BY_COLOR,
            "the mask is gray, but the classes have other colors: leave the colors out",
        ),
        (
            png(LABELS.astype(np.uint16)),
            BY_COLOR,
            "the mask is gray, but the classes have other colors",
        ),
    ],
    ids=["colors", "gray", "16 bits"],
)
def test_colors_in_place_of_indices_and_vice_versa_have_their_own_error(
    encoded: bytes, known: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        labels_of(encoded, known)


def test_a_stray_value_in_a_gray_mask_is_listed_as_in_a_colored_one() -> None:
    classes = [{"name": "ground", "color": "#000000"}, {"name": "road", "color": "#FFFFFF"}]
    mask = np.array([[0, 255, 160, 0]], np.uint8)
    with pytest.raises(
        DataError,
        match=(
            r"a color that no class has: #A0A0A0, 25.00% of .* \(nearest: road, #FFFFFF\)\. Give"
        ),
    ):
        labels_of(png(mask), values_of_colors(section(True, classes=classes)))


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_a_mask_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="the mask"):
        labels_of(BAD[name], BY_INDEX)


# Pillow warns when it writes the large image.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_no_memory_is_allocated_for_a_mask_that_is_too_large() -> None:
    with pytest.raises(
        DataError,
        match="the mask's header says 20000 x 6000 pixels, but at most 100,000,000 are allowed",
    ):
        labels_of(black_png(20_000, 6_000), BY_INDEX)


def test_colors_of_a_picture_with_many_colors_get_the_labels_of_a_plain_table() -> None:
    picture = smooth(40, 50) // 64 * 64
    colors = np.unique(picture.reshape(-1, 3), axis=0)
    classes = [
        {"name": str(n), "color": "#" + bytes(color).hex()} for n, color in enumerate(colors)
    ]
    table = {tuple(color): n for n, color in enumerate(colors.tolist())}
    expected = [[table[tuple(pixel)] for pixel in row] for row in picture.tolist()]
    np.testing.assert_array_equal(
        labels_of(png(picture), values_of_colors(section(True, classes=classes)))[..., 0], expected
    )


SEA, LAND = {"name": "sea", "color": "#0000FF"}, {"name": "land"}


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"classes": (SEA, LAND)},
            "the class land has no color, but other classes have one; give every class a color",
        ),
        (
            {"classes": (SEA, {"name": "lake", "color": "#0000ff"})},
            "the classes sea and lake have the same color, #0000ff",
        ),
        ({"classes": (SEA, {"name": "lake", "color": "blue"})}, "should match pattern"),
        ({"classes": (LAND, LAND)}, "two classes have the same name"),
        ({"classes": (LAND,), "ignore_colors": ("#000000",)}, "ignore_colors is for color masks"),
        (
            {"classes": (SEA,), "ignore_colors": ("#0000ff",)},
            "#0000ff is the color of sea and in ignore_colors",
        ),
        (
            {"classes": (LAND,), "ignore_indices": (0, 255)},
            "0 is the value of the class land and in ignore_indices",
        ),
        (
            {"classes": tuple({"name": str(n)} for n in range(256))},
            "256 classes; a mask can represent at most 255",
        ),
        ({"classes": (SEA,), "train": ()}, "at least 1 item"),
        (
            {"classes": (SEA,), "train": ({"images": "a", "masks": "./a/"},)},
            "images and masks are both in the folder 'a'; put the masks into a",
        ),
    ],
)
def test_a_section_whose_classes_are_ambiguous_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        section(False, **settings)
