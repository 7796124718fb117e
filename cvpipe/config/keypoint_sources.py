"""Sources of images with keypoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.coco import Coco
from cvpipe.config.packed import PackedKeypoints
from cvpipe.config.section import Count, Length, Seed, Share
from cvpipe.config.source import Auto, Merge, Source

FlipPair = tuple[str, str]


class CocoKeypoints(Coco):
    """COCO's keypoints in JSON, such as person_keypoints_train2017.json. Objects of categories
    without keypoints are left out. A category contains the keypoints' names and the skeleton.
    """

    flip_pairs: tuple[FlipPair, ...] = ()
    """Pairs of keypoints that a mirror image swaps; empty: the pairs whose names differ only in
    left and right, such as left_eye and right_eye, LeftEye and RightEye, or eye_l and eye_r.
    """


class KeypointCsv(Source):
    """Tables with a row per image: the image's path, and for each keypoint, such as nose, the
    columns nose_x and nose_y, and optionally nose_v.

    x and y are pixels to the right of and below the image's upper left corner; the center of the
    first pixel is at (0.5, 0.5). v is COCO's visibility: 0 not annotated, 1 hidden, 2 visible. A
    point without x and y is not annotated. The box of a figure is the bounding box of its points.
    """

    kind: Literal["keypoint_csv"]
    """Kind of format."""
    path: str
    """Folder or zip archive with tables and images. Relative to where the command runs."""
    train: str
    """The table of the training split, relative to `path`. If `test` is omitted, test images are
    held out of this table.
    """
    validation: str | None = None
    """The table of the validation split; omit to hold out some training images."""
    test: str | None = None
    """The table of the test split; omit to hold out some images."""
    images: str = ""
    """Folder that paths in the tables are relative to. The folder is relative to `path`."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character that separates columns."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""
    flip_pairs: tuple[FlipPair, ...] = ()
    """Pairs of keypoints that a mirror image swaps; empty: the pairs whose names differ only in
    left and right, such as left_eye and right_eye, LeftEye and RightEye, or eye_l and eye_r.
    """
    skeleton: tuple[FlipPair, ...] = ()
    """Pairs of keypoints that pictures connect by a line."""
    upright: bool = True
    """true: x and y refer to the photo rotated upright by its Exif orientation; false: to the
    stored photo.
    """
    class_name: str = "figure"
    """Class name of the figures."""


class StickFigures(Source):
    """A stick figure of 11 joints on a cluttered background, drawn when the source is opened;
    nothing is downloaded.

    Figures face the viewer. Some stand behind bars, which hide joints.
    """

    kind: Literal["stick_figures"]
    """Kind of format."""
    size: tuple[Length, Length] = (96, 96)
    """Height and width of the images, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB."""
    train: Count = 2_000
    """Number of training images."""
    validation: Count = 200
    """Number of validation images."""
    test: Count = 400
    """Number of test images."""
    heights: tuple[Share, Share] = (0.4, 0.85)
    """Smallest and largest length of a figure, as a share of the image's shorter side."""
    seed: Seed = 0
    """Random seed of the images."""

    @model_validator(mode="after")
    def _figures_are_large_enough(self) -> StickFigures:
        smallest, largest = self.heights
        if not smallest <= largest or smallest * min(self.size) < 16:
            raise ValueError(
                "heights must be [smallest, largest], and the smallest figure at least 16 pixels"
                f" long, not {smallest * min(self.size):g}"
            )
        return self


class AutoKeypoints(Auto):
    """A folder or zip archive of images with keypoints, whose format is detected."""

    task = "pose"


class MergedKeypoints(Merge):
    """Several sources of images with the same keypoints as one."""

    sources: Annotated[tuple[KeypointSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


KeypointSource = Annotated[
    CocoKeypoints | KeypointCsv | StickFigures | AutoKeypoints | PackedKeypoints | MergedKeypoints,
    Field(discriminator="kind"),
]
MergedKeypoints.model_rebuild()
