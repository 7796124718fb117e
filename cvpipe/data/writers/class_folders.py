"""Class folders in folders of splits, train/cat/1.jpg, for Ultralytics, Keras and torchvision."""

from __future__ import annotations

from cvpipe.data.annotated import Annotated
from cvpipe.data.formats.folder import NO_CLASSES
from cvpipe.data.sources.folder import split_of
from cvpipe.data.sources.listing import is_leftover
from cvpipe.data.writers.target import SPLITS, Target
from cvpipe.errors import DataError
from cvpipe.user_paths import UNFIT


def remark_on_folders(target: Target, found: set[int]) -> None:
    """Add remarks on the folders of the classes that occur."""
    target.alphabetical(found, "the folders")
    names = [target.facts.class_names[label] for label in sorted(found)]
    unusual = [name for name in names if name.lower() in NO_CLASSES]
    if names and all(map(split_of, names)):
        unusual = names
    if unusual:
        target.remarks.append(
            f"folders called {', '.join(unusual)} aren't taken for classes when the format is"
            " detected; read them with data.source: {kind: folder, path: …}"
        )


def save_in_class_folder(target: Target, image: Annotated) -> int:
    """Write an image to the folder of its class; return the class.

    Raises:
        DataError: a class's name can't be the name of a folder.
    """
    label = image.annotations.label
    assert label is not None
    name = target.facts.class_names[label]
    if UNFIT.search(name) or is_leftover(name) or name != name.strip():
        raise DataError(
            f"the class '{name}' can't be the name of a folder; choose csv, which has classes as"
            " text"
        )
    target.save_image(image, f"{SPLITS[image.split]}/{name}")
    if image.annotations.score is not None:
        target.lose("images whose probability is left out")
    return label
