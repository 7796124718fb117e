"""Files with many examples each: TFRecord files, and tar archives of WebDataset."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.classes import ClassList, Index, check_mask_classes
from cvpipe.config.section import Whole
from cvpipe.config.source import Source
from cvpipe.config.tables import ObjectKeys


class RecordFiles(Source):
    """Files with many examples each."""

    path: str
    """A folder, or a zip archive, which is unpacked into a temporary file. Relative to where the
    command runs.
    """
    train: str | None = None
    """Pattern of the training split's files, relative to `path`, with * for any characters and
    {000..099} or {a,b} for several files. null: words in the files' paths, such as train,
    validation and test, determine the splits.
    """
    validation: str | None = None
    """Pattern of the validation split's files; omit to hold out some training images."""
    test: str | None = None
    """Pattern of the test split's files; omit to hold out some images."""

    @property
    def patterns(self) -> dict[str, str]:
        """Patterns by split; empty if words determine the splits."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: pattern for split, pattern in given.items() if pattern is not None}

    @model_validator(mode="after")
    def _has_train(self) -> RecordFiles:
        if self.patterns and self.train is None:
            raise ValueError(
                f"{' and '.join(self.patterns)} can't be given without train; add the pattern of"
                " the training split's files"
            )
        return self


class TfRecordFiles(RecordFiles):
    """TFRecord files of tf.train.Example."""

    kind: Literal["tfrecord"]
    """Kind of format."""
    image: str = "image/encoded"
    """The feature with the encoded image; image in exports of TensorFlow Datasets."""
    classes: ClassList = ()
    """Class names in the order of their numbers; an alternative to `names`."""
    names: str | None = None
    """Label map with the class names, relative to `path`: a .pbtxt file, a .csv file of numbers and
    names, or a text file with a name in each line. Without `names` and `classes`, the class names
    are the texts in the examples, or else the numbers that occur.
    """

    @model_validator(mode="after")
    def _has_one_list_of_names(self) -> TfRecordFiles:
        if self.classes and self.names is not None:
            raise ValueError("classes and names both name the classes; leave out one of the two")
        return self


class TfRecord(TfRecordFiles):
    """TFRecord files of tf.train.Example with one class per image, with the keys of TensorFlow
    Datasets or Model Garden. Examples without a class, or with -1, are left out.
    """

    label: str = "image/class/label"
    """The feature with the class's number, or its name; label in TensorFlow Datasets. The feature
    `text` beside it, such as image/class/text, has the name.
    """
    first_label: Whole = 0
    """Number of the first class in `classes` or in a text file of names."""


class TfRecordBoxes(TfRecord):
    """TFRecord files of tf.train.Example whose images show objects, with the keys of TensorFlow
    Datasets, Model Garden or the Object Detection API. Boxes refer to the stored image, before its
    Exif orientation is applied. Flags beside the box, such as is_crowd, difficult and group_of,
    mark objects that are neither learned nor scored.
    """

    label: str = "image/object/class/label"
    """The feature with the objects' numbers, or their names; objects/label in TensorFlow Datasets.
    The feature `text` beside it, such as image/object/class/text, has the names.
    """
    box: str = "image/object/bbox"
    """The features with the boxes as fractions of the image: ymin, xmin, ymax and xmax below this
    name, or one feature of this name with four numbers per object, as objects/bbox in TensorFlow
    Datasets.
    """


class TfRecordMasks(TfRecordFiles):
    """TFRecord files of tf.train.Example with one mask per image, with the keys of TensorFlow
    Datasets, Model Garden or DeepLab.
    """

    mask: str = "image/segmentation/class/encoded"
    """The feature with the encoded mask, whose values are classes; segmentation_mask in TensorFlow
    Datasets.
    """
    first_value: Whole = 0
    """Mask value of the first class in `classes` or in a text file of names."""
    ignore_indices: tuple[Index, ...] = (255,)
    """Values of the mask that are neither learned nor scored."""

    @model_validator(mode="after")
    def _values_identify_classes(self) -> TfRecordMasks:
        if not self.classes and self.names is None:
            raise ValueError(
                "masks don't name their values; give classes, in the order of the values, or names,"
                " a label map"
            )
        check_mask_classes(self.classes, self.ignore_indices, self.first_value)
        return self


class WebDatasetFiles(RecordFiles):
    """Tar archives of WebDataset: consecutive files with the same path up to the first dot of the
    file name are one sample.
    """

    kind: Literal["webdataset"]
    """Kind of format."""
    images: tuple[str, ...] = ("jpg", "jpeg", "png", "webp", "bmp")
    """Extensions of images; the first that a sample has is read."""


class WebDataset(WebDatasetFiles):
    """Tar archives of WebDataset with one class per image. Samples without a class, or with -1, are
    left out.
    """

    annotations: str = "cls"
    """Extension of the files with the class, a number or a name. JSON files have the class in the
    field `label`.
    """
    label: str = "label"
    """For JSON files: the field with the class, a number or a name."""
    classes: ClassList = ()
    """Class names in the order of their numbers; empty: the numbers or names that occur."""


class WebDatasetBoxes(ObjectKeys, WebDataset):
    """Tar archives of WebDataset with one JSON file of objects per image. Samples without a JSON
    file are left out.
    """

    annotations: str = "json"
    """Extension of the JSON files with the objects."""
    objects: str = "objects"
    """The field of the objects: a list of structures, or a structure of lists; "" if the whole file
    is such a list or structure.
    """


class WebDatasetMasks(WebDatasetFiles):
    """Tar archives of WebDataset whose images have a mask each. Samples without a mask are left
    out.
    """

    mask: str = "seg.png"
    """Extension of the masks, whose values are classes, such as seg.png or mask.png; png if the
    images are .jpg.
    """
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Class names in the order of the masks' values."""
    first_value: Whole = 0
    """Mask value of the first class."""
    ignore_indices: tuple[Index, ...] = (255,)
    """Values of the mask that are neither learned nor scored."""

    @model_validator(mode="after")
    def _values_identify_classes(self) -> WebDatasetMasks:
        check_mask_classes(self.classes, self.ignore_indices, self.first_value)
        return self
