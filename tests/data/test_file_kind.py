"""Guards recognition of an image file's kind from its bytes."""

from __future__ import annotations

import pytest

from cvpipe.data.file_kind import file_kind
from image_files import BAD, black_png, encode, noise

RGB_ALPHA = noise(9, 7, 4)
PHOTO = noise(9, 7)
FILES = {
    "JPEG RGB": encode(PHOTO, "JPEG"),
    "JPEG gray": encode(PHOTO, "JPEG", "L"),
    "JPEG CMYK": encode(PHOTO, "JPEG", "CMYK"),
    "PNG RGB": encode(PHOTO, "PNG"),
    "PNG gray": encode(PHOTO, "PNG", "L"),
    "PNG palette": encode(PHOTO, "PNG", "P"),
    "PNG gray + alpha": encode(PHOTO, "PNG", "LA"),
    "PNG RGB + alpha": encode(PHOTO, "PNG", "RGBA"),
    "PNG 16-bit gray": encode(PHOTO, "PNG", "I;16"),
    "BMP RGB": encode(PHOTO, "BMP"),
    "BMP palette": encode(PHOTO, "BMP", "P"),
    "BMP RGB + alpha": encode(RGB_ALPHA, "BMP"),
    "WebP RGB": encode(PHOTO, "WEBP"),
    "WebP RGB + alpha": encode(RGB_ALPHA, "WEBP"),
}


@pytest.mark.parametrize("kind", FILES)
def test_each_kind_is_recognized_by_its_first_bytes(kind: str) -> None:
    assert file_kind(FILES[kind]) == kind


@pytest.mark.parametrize(
    "options, kind",
    [({"progressive": True}, "JPEG RGB"), ({"exif": b"Exif\0\0" + bytes(300)}, "JPEG RGB")],
)
def test_segments_before_a_jpegs_frame_are_skipped(options: dict[str, object], kind: str) -> None:
    assert file_kind(encode(PHOTO, "JPEG", **options)) == kind


@pytest.mark.parametrize(
    "file, kind",
    [
        (encode(PHOTO, "WEBP", lossless=True), "WebP RGB"),
        (encode(RGB_ALPHA, "WEBP", lossless=True), "WebP RGB + alpha"),
        (black_png(5, 5), "PNG gray"),
    ],
)
def test_other_encodings_of_the_same_kind_are_known(file: bytes, kind: str) -> None:
    assert file_kind(file) == kind


@pytest.mark.parametrize("name", BAD)
def test_bad_files_have_a_format_or_none_but_raise_no_error(name: str) -> None:
    known = (
        ("JPEG", "PNG", "BMP", "WebP")
        if name not in ("empty", "garbage", "three bytes", "text", "GIF", "TIFF")
        else ("",)
    )
    assert file_kind(BAD[name]).split(" ")[0] in known


def test_a_file_cut_off_anywhere_raises_no_error() -> None:
    for file in FILES.values():
        for length in range(min(len(file), 400)):
            file_kind(file[:length])
