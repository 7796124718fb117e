"""Data sets of TensorFlow Datasets."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cvpipe.config.classes import Index, check_mask_classes
from cvpipe.config.section import Whole
from cvpipe.config.source import Source


class Tfds(Source):
    """A data set of TensorFlow Datasets, by its name."""

    kind: Literal["tfds"]
    """Kind of format."""
    name: str
    """Name of the data set, such as cifar10 or imagenette/320px:1.0.0."""
    data_dir: str | None = None
    """Folder with the prepared data sets; omit for the default of TensorFlow Datasets,
    ~/tensorflow_datasets.
    """
    download: bool = False
    """Download and prepare the data set if it isn't there."""
    train: str = "train"
    """The training split, as an expression such as train[:80%]. If `test` is null, test images are
    held out of it.
    """
    validation: str | None = None
    """The validation split; omit to hold out some training images."""
    test: str | None = "test"
    """The test split; null to hold out some images."""
    image: str = "image"
    """The feature with the image."""

    @property
    def place(self) -> str:
        """Name of the data set, for messages."""
        return self.name


class TfdsLabels(Tfds):
    """A data set of TensorFlow Datasets, by its name, with a class for each image."""

    label: str = "label"
    """The feature with the class."""


class TfdsObjects(Tfds):
    """A data set of TensorFlow Datasets, by its name, with boxes of objects."""

    objects: str = "objects"
    """The feature with the objects: a sequence whose items have a bbox and a label."""


class TfdsMasks(Tfds):
    """A data set of TensorFlow Datasets, by its name, with a mask for each image."""

    mask: str
    """The feature with the mask, such as segmentation_mask."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the mask's values; empty: the class names of the feature."""
    first_value: Whole = 0
    """Mask value of the first class; 1 for oxford_iiit_pet."""
    ignore_indices: tuple[Index, ...] = (255,)
    """Values of the mask that are neither learned nor scored."""

    @model_validator(mode="after")
    def _values_identify_classes(self) -> TfdsMasks:
        check_mask_classes(self.classes, self.ignore_indices, self.first_value)
        return self
