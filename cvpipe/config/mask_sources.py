"""Sources of images with masks."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.classes import Index, check_mask_classes
from cvpipe.config.coco import CocoMasks
from cvpipe.config.digits import DigitSceneMasks
from cvpipe.config.packed import PackedMasks
from cvpipe.config.record_files import TfRecordMasks, WebDatasetMasks
from cvpipe.config.section import Section
from cvpipe.config.source import Auto, Merge, Source
from cvpipe.config.tfds import TfdsMasks

# A color in HTML's notation.
Color = Annotated[str, Field(pattern="^#[0-9A-Fa-f]{6}$")]


class MaskFolders(Section):
    """A folder of images, and a folder of masks. A mask has the name of its image, apart from
    `mask_suffix` and the extension.
    """

    images: str
    """The folder of the images, relative to the source's path."""
    masks: str
    """The folder of the masks, relative to the source's path."""
    mask_suffix: str = ""
    """Text after the image's name in a mask's name, such as _mask if 1_mask.png is the mask of
    1.jpg. With a suffix, images and masks may be in the same folder.
    """

    @model_validator(mode="after")
    def _masks_differ_from_images(self) -> MaskFolders:
        # Otherwise every image would be its own mask.
        same = PurePosixPath(self.images) == PurePosixPath(self.masks)
        if same and not self.mask_suffix:
            raise ValueError(
                f"images and masks are both in the folder '{self.images}'; put the masks into a"
                " folder of their own, or set mask_suffix to the text that follows the image's name"
                " in a mask's name, such as _mask"
            )
        return self


class MaskClass(Section):
    """A class of a masks source."""

    name: str
    """Name of the class."""
    color: Color | None = None
    """Color of the class in the masks, such as '#3C1098', in quotes."""


class Masks(Source):
    """Images with masks of the same size, whose pixels have the values or colors of classes."""

    kind: Literal["masks"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    train: Annotated[tuple[MaskFolders, ...], Field(min_length=1)]
    """The training split. If `test` is omitted, test images are held out of it."""
    validation: tuple[MaskFolders, ...] = ()
    """The validation split; omit to hold out some training images."""
    test: tuple[MaskFolders, ...] = ()
    """The test split; omit to hold out some images."""
    classes: tuple[MaskClass, ...]
    """The classes. If they have colors, masks are read by color. Otherwise, a class's index from 0
    is its gray value or palette index in the masks.
    """
    ignore_colors: tuple[Color, ...] = ()
    """Colors that are neither learned nor scored."""
    ignore_indices: tuple[Index, ...] = (255,)
    """Values that are neither learned nor scored; unused if classes have colors. For gray masks of
    0 and 255, give the classes the colors '#000000' and '#FFFFFF'.
    """

    @property
    def by_color(self) -> bool:
        """Return True if classes are identified by color."""
        return any(entry.color for entry in self.classes)

    @model_validator(mode="after")
    def _values_identify_classes(self) -> Masks:
        without = [entry.name for entry in self.classes if not entry.color]
        if self.by_color and without:
            raise ValueError(
                f"the class {without[0]} has no color, but other classes have one; give every"
                " class a color, in quotes, because # begins a comment"
            )
        if self.ignore_colors and not self.by_color:
            raise ValueError(
                "ignore_colors is for color masks; give each class its color, in quotes, because #"
                " begins a comment"
            )
        owners: dict[str, str] = {}
        for entry in self.classes if self.by_color else ():
            first = owners.setdefault(str(entry.color).upper(), entry.name)
            if first != entry.name:
                raise ValueError(
                    f"the classes {first} and {entry.name} have the same color, {entry.color}"
                )
        both = [color for color in self.ignore_colors if color.upper() in owners]
        if both:
            raise ValueError(
                f"{both[0]} is the color of {owners[both[0].upper()]} and in ignore_colors;"
                " choose one of the two"
            )
        check_mask_classes(
            [entry.name for entry in self.classes], () if self.by_color else self.ignore_indices
        )
        return self


class AutoMasks(Auto):
    """A folder or zip archive of images with masks, whose format is detected."""

    task = "segmentation"


class MergedMasks(Merge):
    """Several sources of images with masks. Classes are joined by name, and splits by purpose
    (training, validation, test).
    """

    sources: Annotated[tuple[MaskSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


MaskSource = Annotated[
    DigitSceneMasks
    | CocoMasks
    | Masks
    | TfRecordMasks
    | WebDatasetMasks
    | TfdsMasks
    | AutoMasks
    | PackedMasks
    | MergedMasks,
    Field(discriminator="kind"),
]
MergedMasks.model_rebuild()
