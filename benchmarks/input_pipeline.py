"""Measure images per second of input pipelines, from JPEG files to batches for the usual training
on ImageNet: cvpipe, four other libraries, and decoding alone.

The photos are those of grocery16 (348×348) and bccd (640×480), and copies of both scaled up to at
least 3,000 pixels per side. `input_contestants.py` implements the pipelines. Each pipeline has its
own process and runs while the others wait; the median of the rounds is reported.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from cvpipe.data.sources.files import open_files
from input_contestants import BATCH, CONTESTANTS, SIZE
from record import record, row
from turns import Contestant, median_turns

OURS, LIMIT, BY_HAND = "cvpipe", "decode alone", "plain TensorFlow, by hand"
# Parts of cvpipe's own work, to show where its time goes.
PARTS = ("the window decoded", "the window decoded and resized")
PEERS = [name for name in CONTESTANTS if name not in (OURS, LIMIT, BY_HAND, *PARTS)]
# By set of photos: the numbers of warm-up batches and of measured batches per round.
SETS = {"348×348": (4, 16), "640×480": (4, 16), "3,000 pixels": (2, 8)}
LARGE_PHOTOS = 48


def make_photos(folder: Path, kind: str) -> Path:
    """Fill a folder with the photos of a set, in two classes."""
    if kind == "3,000 pixels":
        make_large_photos(folder / kind)
        return folder / kind
    files = open_files({"348×348": "data/grocery16", "640×480": "data/bccd"}[kind])
    for number, name in enumerate(name for name in files.names() if name.endswith(".jpg")):
        file = folder / kind / "ab"[number % 2] / f"{number:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(files.read(name))
    return folder / kind


def make_large_photos(folder: Path) -> None:
    """Write photos of the two other sets, scaled up to 3,000 pixels on the short side, as JPEG
    files of quality 90.
    """
    from PIL import Image

    small = [
        file
        for kind in ("348×348", "640×480")
        for file in sorted((folder.parent / kind).rglob("*.jpg"))
    ]
    for number, file in enumerate(random.Random(0).sample(small, LARGE_PHOTOS)):
        image = Image.open(file)
        factor = 3000 / min(image.size)
        large = folder / "ab"[number % 2] / f"{number:04}.jpg"
        large.parent.mkdir(parents=True, exist_ok=True)
        image.resize([round(side * factor) for side in image.size], Image.Resampling.BICUBIC).save(
            large, quality=90
        )


def race(
    folder: Path, names: list[str], warm_up: int, batches: int, rounds: int
) -> dict[str, float]:
    """Return the images per second of each contestant, as medians over the rounds."""
    script = str(Path(__file__).with_name("input_contestants.py"))
    contestants = {
        name: Contestant([sys.executable, script, name, str(folder), str(warm_up), str(batches)])
        for name in names
    }
    seconds = median_turns(contestants, rounds)
    speeds = {name: BATCH * batches / taken for name, taken in seconds.items()}
    print(
        folder.name,
        "  ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()),
        file=sys.stderr,
    )
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(CONTESTANTS),
        choices=CONTESTANTS,
        help="contestants to measure; with fewer than all, no results are written",
    )
    parser.add_argument(
        "--photos",
        nargs="+",
        default=list(SETS),
        choices=SETS,
        help="sets of photos to use; with fewer than all, no results are written",
    )
    arguments = parser.parse_args()
    speeds = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {kind: make_photos(Path(temporary), kind) for kind in SETS}
        for kind in arguments.photos:
            speeds[kind] = race(folders[kind], arguments.only, *SETS[kind], arguments.rounds)
    if set(speeds) < set(SETS) or set(arguments.only) < set(CONTESTANTS):
        return
    to_peer = {
        kind: values[OURS] / max(values[name] for name in PEERS) for kind, values in speeds.items()
    }
    to_limit = {kind: values[OURS] / values[LIMIT] for kind, values in speeds.items()}
    rows = [
        row(f"{kind}: {name}", round(value, 1), "images/s", name == OURS)
        for kind, values in speeds.items()
        for name, value in values.items()
    ]
    rows += [
        row(f"{kind}: cvpipe / best peer", round(ratio, 3), "", True)
        for kind, ratio in to_peer.items()
    ]
    rows += [
        row(f"{kind}: cvpipe / decode alone", round(ratio, 3), "", True)
        for kind, ratio in to_limit.items()
    ]
    print(
        f"{SIZE}×{SIZE}, batch {BATCH}, {arguments.rounds} rounds; the ratios below are the"
        " lowest of all sets of photos"
    )
    record(
        "input_pipeline",
        rows,
        to_best_peer=round(min(to_peer.values()), 3),
        to_limit=round(min(to_limit.values()), 3),
    )


if __name__ == "__main__":
    main()
