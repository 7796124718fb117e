"""COCO's instances in JSON (cocodataset.org/#format-data), in a folder or a zip archive together
with the images.

Boxes are [x, y, width, height] in pixels; the edges of the image are at 0 and its size. Classes are
in the order of their ids.
"""

from __future__ import annotations

import dataclasses

from cvpipe.config.coco import Coco, CocoMasks, CocoSplit
from cvpipe.config.source import given_splits
from cvpipe.data.sources.coco_boxes import boxed_source
from cvpipe.data.sources.coco_entries import grouping_categories, named_categories
from cvpipe.data.sources.coco_instances import check_categories, read_instances
from cvpipe.data.sources.coco_masks import masked_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.image_paths import ImageFinder
from cvpipe.data.sources.source import ReadColumn, Source, as_text
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, suggest


def coco(config: Coco) -> dict[str, Source]:
    """Return the split of each JSON file, including images without objects. Files are read on
    demand, and masks are painted on demand.

    A missing image is a bad record. Its objects, and those of images that the JSON file doesn't
    list, are left out and counted. For keypoints, objects of categories without keypoints are left
    out.

    Raises:
        DataError: a file is missing, isn't COCO's JSON or lacks keys, no image exists, a number is
            invalid, or a category is unknown.
    """
    given: dict[str, CocoSplit] = given_splits(config)
    files = open_files(
        config.path,
        [
            path
            for split_files in given.values()
            for path in (split_files.annotations, split_files.images)
        ],
    )
    read = {
        split: read_instances(files, section.annotations, config)
        for split, section in given.items()
    }
    grouping = grouping_categories(
        (found.category_rows, found.annotations) for found in read.values()
    )
    instances = {
        split: found._replace(
            categories=named_categories(found.place, found.category_rows, grouping)
        )
        for split, found in read.items()
    }
    trained = instances["train"]
    for other in instances.values():
        check_categories(other, trained)
    names, there = dict[str, list[str]](), set[str]()
    for split, found in instances.items():
        finder = ImageFinder(files, given[split].images)
        paths = [str(image["file_name"]) for image in found.images]
        located = list(map(finder.find, paths))
        names[split] = [
            name or finder.written(path) for name, path in zip(located, paths, strict=True)
        ]
        if not any(located):
            raise DataError(
                f"{files.locate(given[split].images)}: none of the images that {found.place} names"
                f" is there; set data.source.{split}.images to the folder that file names are"
                f" relative to. The first image: {files.no_such_file(finder.written(paths[0]))}"
            )
        there.update(filter(None, located))
    warn_of_leaks(config.path, names)
    if isinstance(config, CocoMasks):
        sources = {
            split: masked_source(files, found, names[split], trained.categories, config)
            for split, found in instances.items()
        }
    else:
        sources = {
            split: boxed_source(files, there, found, names[split], trained.categories, config)
            for split, found in instances.items()
        }
    return {
        split: dataclasses.replace(
            source, read_column=_column_reader(files, given[split].annotations, config)
        )
        for split, source in sources.items()
    }


def _column_reader(files: Files, name: str, config: Coco) -> ReadColumn:
    """Return a reader of the keys of a file's images. It reads the file again, so that unused keys
    take no memory.
    """

    def read(column: str, key: str) -> list[str]:
        images = read_instances(files, name, config).images
        known = sorted({key for image in images for key in image})
        if column not in known:
            raise DataError(
                f"{files.locate(name)}: images have no key '{column}' ({key});"
                f" {suggest(column, known)}"
            )
        return [as_text(image.get(column)) for image in images]

    return read
