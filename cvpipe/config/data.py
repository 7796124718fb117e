"""Where the labelled images come from, and which of them are used for what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cvpipe.config.section import Count, Section, Share


class Digits(Section):
    """scikit-learn's 1,797 handwritten digits, 8×8 grey, 10 classes; they ship inside scikit-learn."""

    kind: Literal["digits"]
    """Which format."""


class Idx(Section):
    """MNIST's format: gzip'd or plain IDX files named like train-images-idx3-ubyte.gz."""

    kind: Literal["idx"]
    """Which format."""
    path: str
    """A folder with the four files, or a zip archive that holds them. Relative to where the command runs."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the label numbers; empty: the numbers themselves."""

    @field_validator("classes")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _all_different(names)


class Folder(Section):
    """A folder per class, its images inside; or train/, validation/ and test/ folders of such folders."""

    kind: Literal["folder"]
    """Which format."""
    path: str
    """The folder. Relative to where the command runs."""


class ClassNames(Section):
    """A table that gives the labels of a csv their names."""

    file: str
    """The table, as seen from the source's path; it has a header."""
    label: str
    """Heading of the column with the labels."""
    name: str
    """Heading of the column with their names."""


class Csv(Section):
    """Tables with a row per image: its path and its label."""

    kind: Literal["csv"]
    """Which format."""
    path: str
    """The folder, or the zip archive, that tables and images lie in. Relative to where the command runs."""
    train: str
    """The table of the training split, as seen from `path`; without a test table, the table of everything."""
    validation: str | None = None
    """The table of the validation split; leave out to hold some training images out."""
    test: str | None = None
    """The table of the test split; leave out to hold some images out."""
    images: str = ""
    """The folder that the paths in the tables begin at, as seen from `path`."""
    header: bool = True
    """Whether the first row holds headings."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What stands between two columns."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""
    label_column: str = "1"
    """The column with the labels: its heading, or its position counted from 0."""
    names: ClassNames | None = None
    """Where the labels' names stand; leave out to call classes by their labels."""

    @model_validator(mode="after")
    def _two_columns(self) -> Csv:
        for key in ("path_column", "label_column"):
            column = getattr(self, key)
            if not self.header and not column.isdecimal():
                raise ValueError(f"{key} is the heading '{column}', but header is false; give the column's position, counted from 0")
        if self.path_column == self.label_column:
            raise ValueError(f"path_column and label_column are both '{self.path_column}'; name two columns")
        return self


class Tfds(Section):
    """A data set of TensorFlow Datasets, by its name."""

    kind: Literal["tfds"]
    """Which format."""
    name: str
    """Such as cifar10, or imagenette/320px:1.0.0."""
    data_dir: str | None = None
    """Where data sets are kept; leave out for TensorFlow Datasets' own place, ~/tensorflow_datasets."""
    download: bool = False
    """Fetch and prepare it where it isn't there yet."""
    train: str = "train"
    """The training split, as an expression such as train[:80%]; without a test split, everything."""
    validation: str | None = None
    """The validation split; leave out to hold some training images out."""
    test: str | None = "test"
    """The test split; null to hold some images out."""
    image: str = "image"
    """The feature with the image."""
    label: str = "label"
    """The feature with the class."""


class Merge(Section):
    """Several sources as one: their classes are joined by name, their splits by what they are for."""

    kind: Literal["merge"]
    """Which format."""
    sources: Annotated[tuple[Source, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


Source = Annotated[Digits | Idx | Folder | Csv | Tfds | Merge, Field(discriminator="kind")]


class Fold(Section):
    """One of the ways to cut the training split into parts for cross-validation."""

    of: Annotated[int, Field(ge=2)] = 5
    """Parts of about equal size, each class by itself."""
    index: Annotated[int, Field(ge=0)] = 0
    """Which of them is the validation split, counted from 0; the others are trained on."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Fold:
        if self.index >= self.of:
            raise ValueError(f"index {self.index} is not below of, {self.of}; they are counted from 0")
        return self


class Data(Section):
    """Where the labelled images come from."""

    source: Source
    """The format, by its `kind`, and where the files are."""
    validation: Share = 0.1
    """Share of the training split held out per class, to choose the best checkpoint; unused where the source has a validation split."""
    test: Share = 0.2
    """Share of everything held out per class for testing; unused where the source has a test split."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Chooses what is held out, and what `limit` keeps; apart from the pipeline's `seed`, so that runs that differ in that alone can be
    compared, and answer together."""
    fold: Fold | None = None
    """Cross-validation: takes the place of the validation split, whatever `validation` says."""
    only: tuple[str, ...] = ()
    """The classes to use, in this order; empty: all."""
    limit: Count | None = None
    """Train on no more images than this, as many of each class as can be, chosen by the seed."""
    max_bad_share: Share = 0.05
    """The run stops when more than this share of a split's records can't be read. Fewer are left out and reported."""

    @field_validator("only")
    @classmethod
    def _two_different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) == 1:
            raise ValueError("one class can't be told from others; name at least two")
        return _all_different(names)


def _all_different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return names
