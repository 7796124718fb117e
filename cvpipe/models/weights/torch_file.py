"""Reader for PyTorch's state dicts (`.pth`, `.pt`), without PyTorch and without running their code.

Such a file is a pickle, which can call any function of any module. Only the four names that a state
dict needs are allowed here, and none of them calls PyTorch: OrderedDict is Python's, and the others
become descriptions of tensors, which are checked before their values are read.

PyTorch 1.6 and later write a zip archive: data.pkl, and a file for each storage. Earlier versions
write five pickles (magic number, protocol, sizes, state dict, keys of the storages), then each
storage: its length as int64, and its numbers.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cvpipe.errors import DataError

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file that PyTorch wrote before 1.6."""
PROTOCOL = 1001
"""Second pickle of a file that PyTorch wrote before 1.6."""
MOST_MEMOS = 1 << 20
"""Limit of memo indices, since the unpickler allocates memory up to the highest index."""
MOST_SHARING = 4
"""Limit of (number of values in all tensors) / (number of values in the file). It may exceed 1,
because tensors may share storages.
"""
OPCODES = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 BINFLOAT
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET
    BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID POP POP_MARK DUP
"""
"""Allowed pickle opcodes."""


class Storage(NamedTuple):
    """A block of numbers in the file."""

    dtype: np.dtype
    key: str
    length: int


class Tensor(NamedTuple):
    """A view of a storage, with arbitrary strides."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Refused(Exception):
    """The pickle contains something that a state dict doesn't need."""


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name.

    A dictionary with the state dict under "state_dict" or "model", as saved by training scripts, is
    accepted, too.

    Raises:
        DataError: the file is damaged, isn't a state dict, or contains anything but tensors. No
            code in the file is run.
    """
    try:
        with path.open("rb") as stream:
            # `zipfile.is_zipfile` looks for an archive's end, so it rejects truncated archives.
            archive = stream.read(2) == b"PK"
            stream.seek(0)
            return (_read_archive if archive else _read_legacy)(stream)
    except Refused as error:
        raise DataError(
            f"{path}: {error}, which a file of weights doesn't need (no code in it was run); save"
            " model.state_dict() alone, or a .safetensors file"
        ) from None
    # Damaged bytes can raise any exception.
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or not a PyTorch state dict ({str(error) or type(error).__name__});"
            " copy it again, or save model.state_dict()"
        ) from None


def _read_archive(stream: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(stream) as archive:
        files = {info.filename: info for info in archive.infolist()}
        pickled = next((name for name in files if name.endswith("/data.pkl")), None)
        if pickled is None:
            raise ValueError("its archive has no data.pkl")
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in files and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")

        def read(name: str, limit: int | None = None) -> bytes:
            info = files[name]
            # Uncompressed entries can't be larger than the file.
            if info.compress_type != zipfile.ZIP_STORED or limit not in (None, info.file_size):
                raise ValueError(f"{name} is compressed, or its length doesn't match its tensor")
            return archive.read(info)

        values = _unpickle(io.BytesIO(read(pickled)))
        return _tensors(
            values,
            lambda storage: np.frombuffer(
                read(f"{root}data/{storage.key}", storage.length * storage.dtype.itemsize),
                storage.dtype,
            ),
        )


def _read_legacy(stream: BinaryIO) -> dict[str, np.ndarray]:
    if _unpickle(stream) != MAGIC or _unpickle(stream) != PROTOCOL:
        raise ValueError("it doesn't begin like PyTorch's files")
    sizes = _unpickle(stream)
    if not sizes["little_endian"]:
        raise ValueError("its numbers are big-endian")
    values, keys = _unpickle(stream), _unpickle(stream)
    known = {tensor.storage.key: tensor.storage for tensor in _state_dict(values).values()}
    read: dict[str, np.ndarray] = {}
    for key in keys:
        storage, length = known[key], int.from_bytes(stream.read(8), "little", signed=True)
        data = stream.read(storage.length * storage.dtype.itemsize)
        if length != storage.length or len(data) != length * storage.dtype.itemsize:
            raise ValueError("it ends within a tensor")
        read[key] = np.frombuffer(data, storage.dtype)
    return _tensors(values, lambda storage: read[storage.key])


def _unpickle(stream: BinaryIO) -> Any:
    """Unpickle the next object, and leave the stream at its end."""
    begin = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name not in OPCODES.split():
            raise Refused(f"its pickle has the instruction {opcode.name}")
        if opcode.name.endswith("PUT") and (argument or 0) > MOST_MEMOS:
            raise ValueError("its pickle refers to more objects than it can contain")
    end = stream.tell()
    stream.seek(begin)
    return _Unpickler(io.BytesIO(stream.read(end - begin))).load()


class _Unpickler(pickle.Unpickler):
    """Unpickler for dictionaries of tensors that can't run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise Refused(f"its pickle names {module}.{name}")
        return ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        tag, dtype, key, _, length, *_ = pid
        if tag != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise ValueError("a storage has an unknown description")
        return Storage(dtype, key, _count(length))


def _rebuild(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    """Stand in for torch._utils._rebuild_tensor_v2."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    return Tensor(storage, _count(offset), tuple(map(_count, size)), tuple(map(_count, stride)))


ADMITTED: Mapping[tuple[str, str], Callable[..., Any] | np.dtype] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}
"""Allowed names in a pickle, and their replacements."""


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a size is not a number")
    return value


def _state_dict(values: Any) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(values, dict) and isinstance(dict.get(values, key), dict):
            values = dict.get(values, key)
    if not isinstance(values, dict) or not values:
        raise ValueError("it contains no dictionary of tensors")
    for name, value in dict.items(values):
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{name!r:.60} is not a tensor")
    return dict(dict.items(values))


def _tensors(values: Any, read: Callable[[Storage], np.ndarray]) -> dict[str, np.ndarray]:
    tensors = _state_dict(values)
    lengths = {tensor.storage.key: tensor.storage.length for tensor in tensors.values()}
    if sum(prod(tensor.size) for tensor in tensors.values()) > MOST_SHARING * sum(lengths.values()):
        raise ValueError("its tensors have many more numbers than the file")
    return {name: _view(tensor, read(tensor.storage)) for name, tensor in tensors.items()}


def _view(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """Return the elements of a tensor in order, for any strides."""
    _, offset, size, stride = tensor
    if len(size) != len(stride) or numbers.dtype != tensor.storage.dtype:
        raise ValueError("two descriptions of a tensor contradict each other")
    if not prod(size):
        return np.empty(size, numbers.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # Without this check, the view could read memory outside the file.
    if last >= len(numbers) or prod(size) > len(numbers):
        raise ValueError("a tensor reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        numbers[offset:], size, [step * numbers.itemsize for step in stride], writeable=False
    )
    return np.ascontiguousarray(view)
