"""The manifest of packed data: manifest.json, which lists every file with its SHA-256.

A split has one or more shards. A shard is an ArrayRecord file with the images and a columns file
(`columns_file.py`) with the annotations and names of its records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from cvpipe.data.facts import Facts
from cvpipe.errors import DataError
from cvpipe.storage import address, read_file, write_file

MANIFEST = "manifest.json"
FORMAT, VERSION = "cvpipe packed data", 1


class Spec(NamedTuple):
    """Type and shape of a tensor in a record."""

    dtype: str
    """Name of the dtype, such as uint8."""
    shape: tuple[int | None, ...]
    """Shape; None for lengths that vary."""


class Shard(NamedTuple):
    """The two files of a shard."""

    file: str
    """Name of the ArrayRecord file."""
    columns: str
    """Name of the columns file."""
    examples: int
    """Number of records."""
    bytes: int
    """Size of the ArrayRecord file."""
    sha256: str
    """Digest of the ArrayRecord file."""
    columns_sha256: str
    """Digest of the columns file."""


class Split(NamedTuple):
    """The records of a split."""

    examples: int
    """Number of records."""
    digest: str
    """Fingerprint of the original examples and their order."""
    tensors: Mapping[str, Spec]
    """Tensors of each record by name; "bytes" is an image file."""
    shards: tuple[Shard, ...]
    """Shards, in the order of their records."""


class Manifest(NamedTuple):
    """Contents of a folder of packed data."""

    facts: Facts
    """Names of classes and keypoints."""
    annotations: tuple[str, ...]
    """Kinds of annotation, such as label."""
    source: Mapping[str, Any]
    """Format and location of the original data."""
    options: Mapping[str, Any]
    """Options of packing: "longest_side" and "quality"."""
    splits: Mapping[str, Split]
    """Splits by name."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, including their SHA-256."""
        values = {
            "format": FORMAT,
            "version": VERSION,
            "facts": self.facts.to_json(),
            "annotations": list(self.annotations),
            "source": dict(self.source),
            "options": dict(self.options),
            "splits": {
                name: {
                    **split._asdict(),
                    "tensors": {key: spec._asdict() for key, spec in split.tensors.items()},
                    "shards": [shard._asdict() for shard in split.shards],
                }
                for name, split in self.splits.items()
            },
        }
        return {**values, "sha256": _sha256(values)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore a manifest from `to_json`."""
        return cls(
            Facts.from_json(values["facts"]),
            tuple(values["annotations"]),
            values["source"],
            values["options"],
            {
                name: Split(
                    split["examples"],
                    split["digest"],
                    {
                        key: Spec(spec["dtype"], tuple(spec["shape"]))
                        for key, spec in split["tensors"].items()
                    },
                    tuple(Shard(**shard) for shard in split["shards"]),
                )
                for name, split in values["splits"].items()
            },
        )


def write_manifest(place: str, manifest: Manifest) -> None:
    """Write the manifest, which completes the packed data."""
    write_file(place, MANIFEST, (json.dumps(manifest.to_json(), indent=1) + "\n").encode())


def read_manifest(place: str) -> Manifest:
    """Read the manifest of packed data.

    Raises:
        DataError: the manifest is missing or damaged, or was written by an incompatible version of
            cvpipe.
    """
    file = address(place, MANIFEST)
    text = read_file(place, MANIFEST)
    try:
        values = json.loads(text)
        known = values.pop("sha256")
        is_whole = _sha256(values) == known
    except (ValueError, AttributeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        raise DataError(f"{file}: damaged, or not a manifest of packed data; pack the data again")
    if (values["format"], values["version"]) != (FORMAT, VERSION):
        raise DataError(
            f"{file}: {values['format']} of version {values['version']}; this cvpipe reads version"
            f" {VERSION}; pack the data again"
        )
    return Manifest.from_json(values)


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
