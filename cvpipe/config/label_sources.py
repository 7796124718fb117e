"""Sources of images with one class each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.classes import ClassList
from cvpipe.config.digits import Digits
from cvpipe.config.packed import PackedLabels
from cvpipe.config.record_files import TfRecord, WebDataset
from cvpipe.config.section import Section
from cvpipe.config.source import Auto, Merge, Source, given_splits
from cvpipe.config.tables import Parquet
from cvpipe.config.tfds import TfdsLabels


class Idx(Source):
    """MNIST's format: gzip'd or plain IDX files named like train-images-idx3-ubyte.gz."""

    kind: Literal["idx"]
    """Kind of format."""
    path: str
    """A folder or zip archive with the four files.

    Relative to where the command runs.
    """
    classes: ClassList = ()
    """Class names in the order of the label numbers; empty: the numbers themselves."""


class Folder(Source):
    """A folder per class with its images, optionally below train/, validation/ and test/."""

    kind: Literal["folder"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    root: str = ""
    """Folder that contains the folders of classes or splits, relative to `path`."""


class ClassNames(Section):
    """A table with the names of labels."""

    file: str
    """The table, relative to the source's path; it has a header."""
    label: str
    """Heading of the column with the labels."""
    name: str
    """Heading of the column with their names."""


class Csv(Source):
    """Tables with a row per image: its path and its label."""

    kind: Literal["csv"]
    """Kind of format."""
    path: str
    """Folder or zip archive with tables and images.

    Relative to where the command runs.
    """
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
    header: bool = True
    """True if the first row holds column headings."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character that separates columns."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""
    label_column: str = "1"
    """The column with the labels: its heading, or its position counted from 0."""
    names: ClassNames | None = None
    """Table with the names of the labels; omit to use the labels as class names."""

    @model_validator(mode="after")
    def _two_columns(self) -> Csv:
        for key in ("path_column", "label_column"):
            column = getattr(self, key)
            if not self.header and not column.isdecimal():
                raise ValueError(
                    f"{key} is the heading '{column}', but header is false; give the column's"
                    " position, counted from 0"
                )
        if self.path_column == self.label_column:
            raise ValueError(
                f"path_column and label_column are both '{self.path_column}'; name two columns"
            )
        return self


class OneHot(Source):
    """Tables with a row per image, and a column per class that is 1 for the image's class, else 0,
    such as Roboflow's "multi-class" CSV. Images without a class or with several are left out.
    """

    kind: Literal["one_hot_csv"]
    """Kind of format."""
    path: str
    """Folder or zip archive with tables and images.

    Relative to where the command runs.
    """
    train: str
    """The table of the training split, relative to `path`. If `test` is omitted, test images are
    held out of this table. Image paths are relative to the table's folder, or to `path`.
    """
    validation: str | None = None
    """The table of the validation split; omit to hold out some training images."""
    test: str | None = None
    """The table of the test split; omit to hold out some images."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""

    @property
    def files(self) -> dict[str, str]:
        """Tables by split."""
        return given_splits(self)


class AutoLabels(Auto):
    """A folder or zip archive of images with one class each, whose format is detected."""

    task = "classification"


class MergedLabels(Merge):
    """Several sources of images with one class each. Classes are joined by name, and splits by
    purpose (training, validation, test).
    """

    sources: Annotated[tuple[LabelSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


LabelSource = Annotated[
    Digits
    | Idx
    | Folder
    | Csv
    | OneHot
    | Parquet
    | TfRecord
    | WebDataset
    | TfdsLabels
    | AutoLabels
    | PackedLabels
    | MergedLabels,
    Field(discriminator="kind"),
]
MergedLabels.model_rebuild()
