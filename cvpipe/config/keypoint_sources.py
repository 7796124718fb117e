"""Images with keypoints: where they lie, and how their points are named and paired."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.data import Auto, Coco, Merge
from cvpipe.config.packed import PackedKeypoints
from cvpipe.config.section import Count, Share
from cvpipe.config.source import Source

FlipPair = tuple[str, str]


class CocoKeypoints(Coco):
    """COCO's keypoints in JSON, such as person_keypoints_train2017.json: the instances of
    categories that have keypoints. Names and skeleton stand with the category.
    """

    flip_pairs: tuple[FlipPair, ...] = ()
    """Names of keypoints that change places in a mirror image; empty: those that differ in left and
    right alone, such as left_eye and right_eye.
    """


class KeypointCsv(Source):
    """Tables with a row per image: its path, and columns nose_x, nose_y and perhaps nose_v for a
    keypoint named nose.

    x and y are pixels to the right of and below the image's upper left corner; the center of the
    first pixel is at (0.5, 0.5). v is COCO's visibility: 0 not annotated, 1 hidden, 2 visible. A
    point without x and y is not annotated. The figure's box is the smallest around its points.
    """

    kind: Literal["keypoint_csv"]
    """Kind of format."""
    path: str
    """The folder, or the zip archive, that tables and images lie in. Relative to where the command
    runs.
    """
    train: str
    """The table of the training split, as seen from `path`; without a test table, the table of
    everything.
    """
    validation: str | None = None
    """The table of the validation split; leave out to hold some training images out."""
    test: str | None = None
    """The table of the test split; leave out to hold some images out."""
    images: str = ""
    """The folder that the paths in the tables begin at, as seen from `path`."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character between two columns."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""
    flip_pairs: tuple[FlipPair, ...] = ()
    """Names of keypoints that change places in a mirror image; empty: those that differ in left and
    right alone, such as left_eye and right_eye.
    """
    skeleton: tuple[FlipPair, ...] = ()
    """Names of keypoints that pictures join by a line."""
    upright: bool = True
    """true: x and y lie on the photo turned upright as its Exif says; false: on the photo as it is
    stored.
    """
    class_name: str = "figure"
    """Name of the figures."""


class StickFigures(Source):
    """A stick figure of 11 joints on clutter, drawn when opened; nothing is downloaded.

    Figures face the viewer. Bars in front of some hide joints.
    """

    kind: Literal["stick_figures"]
    """Kind of format."""
    size: tuple[Count, Count] = (96, 96)
    """Height and width of the images, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB."""
    train: Count = 2_000
    """Images to train on."""
    validation: Count = 200
    """Images to choose the best checkpoint with."""
    test: Count = 400
    """Images to test on."""
    heights: tuple[Share, Share] = (0.4, 0.85)
    """Smallest and largest length of a figure's longer side, as a share of the image's shorter."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Chooses the images."""

    @model_validator(mode="after")
    def _figures_are_seen(self) -> StickFigures:
        smallest, largest = self.heights
        if not smallest <= largest or smallest * min(self.size) < 16:
            raise ValueError(
                "heights must be [smallest, largest], and the smallest figure at least 16 pixels"
                f" long, not {smallest * min(self.size):g}"
            )
        return self


class AutoKeypoints(Auto):
    """A folder or zip archive of images with keypoints, whose format is told by its files."""

    task = "pose"


class MergedKeypoints(Merge):
    """Several sources of images with keypoints as one: they have the same keypoints."""

    sources: Annotated[tuple[KeypointSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


KeypointSource = Annotated[
    CocoKeypoints | KeypointCsv | StickFigures | AutoKeypoints | PackedKeypoints | MergedKeypoints,
    Field(discriminator="kind"),
]
MergedKeypoints.model_rebuild()
