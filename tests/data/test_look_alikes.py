"""Guards near-duplicates and odd images: copies are found, and merely similar images aren't."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from conftest import FindData, small_config
from cvpipe.config.label_sources import Folder
from cvpipe.data.check import check
from cvpipe.data.check_sheet import write_sheet
from cvpipe.data.look_alikes import SIDE, near_duplicates
from cvpipe.data.sources import open_splits
from cvpipe.data.sources.folder import folder

Photo = Image.Image


def cloudy(seed: int, size: tuple[int, int] = (120, 160)) -> Photo:
    """A picture with the spectrum of photos: amplitudes fall with the frequency."""
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(size[0])[:, np.newaxis], np.fft.fftfreq(size[1])
    falling = 1 / np.maximum(np.hypot(rows, columns), 0.005)
    waves = np.fft.fft2(random.normal(size=(3, *size))) * falling
    clouds = np.fft.ifft2(waves).real.transpose(1, 2, 0)
    scaled = 128 + 40 * clouds / clouds.std()
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def reencoded(photo: Photo) -> Photo:
    content = io.BytesIO()
    photo.convert("RGB").save(content, "JPEG", quality=40)
    return Image.open(io.BytesIO(content.getvalue()))


def resized(photo: Photo) -> Photo:
    return photo.resize((photo.width * 6 // 10, photo.height * 6 // 10))


def cropped(photo: Photo) -> Photo:
    width, height = photo.size
    edges = (0.02 * width, 0.05 * height, 0.96 * width, 0.97 * height)
    return photo.crop(tuple(map(round, edges)))


def brightened(photo: Photo) -> Photo:
    return ImageEnhance.Brightness(photo).enhance(1.3)


COPIES: list[Callable[[Photo], Photo]] = [reencoded, resized, cropped, brightened]


def thumbnail(photo: Photo) -> np.ndarray:
    return np.asarray(photo.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def test_copies_are_found_among_many_images_and_nothing_else_is() -> None:
    photos = [cloudy(seed) for seed in range(60)]
    copies = [copy(photos[n]) for n, copy in enumerate(COPIES)]
    thumbnails = np.stack([thumbnail(photo) for photo in (*photos, *copies)])
    found = near_duplicates(thumbnails, np.arange(len(thumbnails)))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == {(n, 60 + n) for n in range(len(COPIES))}
    assert (np.diff(found.difference) >= 0).all()


def test_few_or_blank_images_have_no_near_duplicates() -> None:
    blank = np.full((5, SIDE, SIDE), 200, np.uint8)
    for thumbnails in (blank[:0], blank[:1], blank, thumbnail(cloudy(0))[np.newaxis]):
        assert not len(near_duplicates(thumbnails, np.arange(len(thumbnails))).first)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write twelve photos in two splits, copies of four of them, and odd images."""
    root = tmp_path / "photos"
    for split in ("train", "test"):
        (root / split / "a").mkdir(parents=True)
    for seed in range(12):
        cloudy(seed).save(root / ("train" if seed < 8 else "test") / "a" / f"{seed}.png")
    for seed, copy in enumerate(COPIES):
        copy(cloudy(seed)).convert("RGB").save(root / "test" / "a" / f"copy-{seed}.png")
    odd = {
        "dark": ImageEnhance.Brightness(cloudy(20)).enhance(0.25),
        "bright": Image.fromarray(219 + np.asarray(cloudy(21)) // 8),
        "blank": Image.new("RGB", (160, 120), (90, 10, 30)),
        "blurry": cloudy(22).filter(ImageFilter.GaussianBlur(6)),
        "tall": cloudy(23, (400, 60)),
        "small": cloudy(24, (18, 24)),
    }
    for name, photo in odd.items():
        photo.save(root / "train" / "a" / f"{name}.png")
    return root


def test_a_check_shows_copies_across_splits_and_odd_images(photos: Path, tmp_path: Path) -> None:
    splits = folder(Folder(kind="folder", path=str(photos)))
    result = check(splits, 3)
    assert result["clean"]
    assert all(pair["across_splits"] for pair in result["near_duplicates"])
    pairs = [
        {Path(each["record"]).stem for each in one["records"]} for one in result["near_duplicates"]
    ]
    assert sorted(map(sorted, pairs)) == [[f"{n}", f"copy-{n}"] for n in range(4)]
    odd = {
        kind: [Path(each["record"]).stem for each in found] for kind, found in result["odd"].items()
    }
    assert odd == {
        "dark": ["dark"],
        "bright": ["bright"],
        "blank": ["blank"],
        "blurry": ["blurry"],
        "odd aspect": ["tall"],
        "odd size": ["small"],
    }
    page = write_sheet(json.loads(json.dumps(result)), splits, tmp_path).read_text("utf-8")
    assert page.count("<figure>") == 4 + 6
    assert "copy-3.png (test, a)" in page


def test_only_two_of_the_digits_are_near_duplicates() -> None:
    # Inspected by eye: the two images have the same strokes, one pixel apart.
    seen: list[tuple[int, int]] = []
    result = check(
        open_splits(small_config().data),
        1,
        watch_pairs=lambda done, pairs: seen.append((done, pairs)),
    )
    done, total = zip(*seen, strict=True)
    assert sorted(set(done)) == list(done) and set(total) == {done[-1]}
    pairs = [[each["record"] for each in pair["records"]] for pair in result["near_duplicates"]]
    assert pairs == [["digits[198]", "digits[238]"]]


@pytest.mark.soak
@pytest.mark.parametrize("name", ["bccd", "grocery16"])
def test_planted_copies_of_photos_are_all_found(name: str, public_data: FindData) -> None:
    random = np.random.default_rng(0)
    with zipfile.ZipFile(public_data(name)) as archive:
        names = [each for each in sorted(archive.namelist()) if each.endswith((".jpg", ".jpeg"))]
        chosen = random.permutation(len(names))[:160]
        photos = [Image.open(io.BytesIO(archive.read(names[n]))).convert("RGB") for n in chosen]
    copies = [(n, copy(photos[n])) for n in range(80) for copy in COPIES]
    thumbnails = np.stack([thumbnail(each) for each in (*photos, *(copy for _, copy in copies))])
    for start in range(len(COPIES)):
        kept = np.concatenate([np.arange(160), np.arange(160 + start, len(thumbnails), 4)])
        found = near_duplicates(thumbnails, kept)
        pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
        lost = [n for n in range(80) if (n, 160 + 4 * n + start) not in pairs]
        assert not lost, COPIES[start]
