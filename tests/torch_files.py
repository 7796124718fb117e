"""Writes PyTorch's files without PyTorch, valid ones and malicious ones."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"<f4": "FloatStorage", "<i8": "LongStorage", "<f2": "HalfStorage"}


class Name(NamedTuple):
    """A function or class that a pickle names."""

    module: str
    name: str

    def __call__(self) -> None:
        """Do nothing. The pickler only checks that the object is callable."""


class Call(NamedTuple):
    """A call that unpickling makes."""

    function: Name
    arguments: tuple[Any, ...]


class Tensor(NamedTuple):
    """A tensor as a pickle describes it."""

    key: str
    storage: str
    length: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Pickler(pickle._Pickler):
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Name):
            self.write(b"c%s\n%s\n" % (obj.module.encode(), obj.name.encode()))
        elif isinstance(obj, Call):
            self.save_reduce(obj.function, obj.arguments)
        elif isinstance(obj, Tensor):
            storage = Name("torch", obj.storage)
            self.save_reduce(
                Name("torch._utils", "_rebuild_tensor_v2"),
                (_Stored((storage, obj.key, obj.length)), obj.offset, obj.size, obj.stride, False),
            )
        elif isinstance(obj, _Stored):
            storage, key, length = obj
            super().save(("storage", storage, key, "cpu", length), False)
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


class _Stored(tuple):
    __slots__ = ()


def pickled(value: Any) -> bytes:
    """Return the pickle of a value that may hold names, calls and tensors."""
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return stream.getvalue()


def described(tensors: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Describe arrays as tensors with the arrays' order of elements in memory."""
    return {
        name: Tensor(
            str(number),
            STORAGES[array.dtype.str],
            array.size,
            0,
            array.shape,
            tuple(step // array.itemsize for step in array.strides),
        )
        for number, (name, array) in enumerate(tensors.items())
    }


def archive_bytes(value: Any, storages: Mapping[str, bytes]) -> bytes:
    """Return a file as PyTorch 1.6 and later write it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/byteorder", b"little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return stream.getvalue()


def legacy_bytes(value: Any, storages: Mapping[str, bytes], itemsize: int = 4) -> bytes:
    """Return a file as PyTorch before 1.6 wrote it, with sorted keys of storages."""
    sizes = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}
    head = b"".join(map(pickled, (MAGIC, PROTOCOL, sizes, value, sorted(storages))))
    return head + b"".join(
        (len(storages[key]) // itemsize).to_bytes(8, "little") + storages[key]
        for key in sorted(storages)
    )


def storages_of(tensors: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Return the bytes of each array's elements as they lie in memory."""
    return {
        str(number): array.transpose(np.argsort([-step for step in array.strides])).tobytes()
        for number, array in enumerate(tensors.values())
    }
