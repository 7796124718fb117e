"""Guards PyTorch files: their tensors are read, and no code in them is run."""

from __future__ import annotations

import contextlib
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvpipe.errors import DataError
from cvpipe.models.weights.torch_file import read_torch_file
from torch_files import (
    Call,
    Name,
    Tensor,
    archive_bytes,
    described,
    legacy_bytes,
    pickled,
    storages_of,
)
from torch_peer import ask_peer

TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    # PyTorch stores transposed tensors like this, column by column.
    "fc.weight": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "fc.bias": np.arange(2, dtype=np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
WRITTEN = {"archive": archive_bytes, "legacy": legacy_bytes}


@pytest.fixture(params=WRITTEN)
def written(request: pytest.FixtureRequest) -> Any:
    return WRITTEN[request.param]


def read(tmp_path: Path, data: bytes) -> dict[str, np.ndarray]:
    (tmp_path / "a.pth").write_bytes(data)
    return read_torch_file(tmp_path / "a.pth")


def test_tensors_are_read_in_any_order_of_elements(tmp_path: Path, written: Any) -> None:
    found = read(tmp_path, written(described(TENSORS), storages_of(TENSORS)))
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.c_contiguous


def test_counts_of_batches_are_read_too(tmp_path: Path) -> None:
    counts = {"bn.num_batches_tracked": np.array([7])}
    found = read(tmp_path, archive_bytes(described(counts), storages_of(counts)))
    assert found["bn.num_batches_tracked"].tolist() == [7]


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_inside_a_checkpoint_is_read(tmp_path: Path, key: str) -> None:
    value = {"epoch": 3, key: described(TENSORS)}
    assert read(tmp_path, archive_bytes(value, storages_of(TENSORS))).keys() == TENSORS.keys()


@pytest.mark.parametrize(
    "module, name",
    [
        ("os", "system"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("torch", "HalfStorage"),
        ("torch.nn.modules.linear", "Linear"),
        ("collections", "Counter"),
    ],
)
def test_a_pickle_that_names_anything_else_is_refused(
    tmp_path: Path, written: Any, module: str, name: str
) -> None:
    value = {**described(TENSORS), "x": Call(Name(module, name), ("1 + 1",))}
    with pytest.raises(DataError, match=re.escape(f"its pickle names {module}.{name}")):
        read(tmp_path, written(value, storages_of(TENSORS)))


class Attack:
    """An object that writes a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.marker)!r}, 'w').write('run')",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    attack = pickle.dumps({"a": Attack(marker)}, protocol)
    with pytest.raises(DataError, match="no code in it was run"):
        read(tmp_path, attack)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    with pytest.raises(DataError, match="no code in it was run"):
        read_torch_file(tmp_path / "a.pth")
    assert not marker.exists()
    # Python's `pickle` runs the code in these bytes.
    pickle.loads(attack)
    assert marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"length": 1000},
        {"offset": 1},
        {"offset": -1},
        {"size": (2, 3, 5)},
        {"size": (2, 3)},
        {"stride": (100, 4, 1)},
        {"stride": (-12, 4, 1)},
        {"size": (10**12, 3, 4), "stride": (0, 0, 0)},
        {"storage": "LongStorage"},
        {"key": "nowhere"},
    ],
)
def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(
    tmp_path: Path, written: Any, change: dict[str, Any]
) -> None:
    tensors = {"a": TENSORS["conv.weight"]}
    value = {"a": described(tensors)["a"]._replace(**change)}
    with pytest.raises(DataError, match="damaged, or not a PyTorch state dict"):
        read(tmp_path, written(value, storages_of(tensors)))


def test_two_descriptions_of_a_storage_must_agree(tmp_path: Path) -> None:
    short = Tensor("0", "FloatStorage", 2, 0, (2,), (1,))
    long = short._replace(length=10**6, size=(10**6,))
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path, legacy_bytes({"a": long, "b": short}, {"0": bytes(8)}))


@pytest.mark.parametrize("step", [1, 7])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, written: Any, step: int) -> None:
    whole = written(described(TENSORS), storages_of(TENSORS))
    for length in range(0, len(whole) - 1, 37 * step):
        with pytest.raises(DataError, match=r"a\.pth: damaged"):
            read(tmp_path, whole[:length])


def test_a_truncated_archive_is_damaged_whatever_its_time_stamps(tmp_path: Path) -> None:
    # An archive contains time stamps. If a byte of a time stamp is a line break, the bytes before
    # it are a valid pickle instruction.
    whole = archive_bytes(described(TENSORS), storages_of(TENSORS)).replace(b"\0\0", b"\n\n")
    with pytest.raises(DataError, match=r"a\.pth: damaged"):
        read(tmp_path, whole[:200])


def test_changed_bytes_give_tensors_or_a_data_error(tmp_path: Path, written: Any) -> None:
    whole = written(described(TENSORS), storages_of(TENSORS))
    draw = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[draw.integers(len(data))] = draw.integers(256)
        with contextlib.suppress(DataError):
            read(tmp_path, bytes(data))


def test_a_pickle_that_allocates_more_memory_than_it_needs_is_refused(tmp_path: Path) -> None:
    # LONG_BINPUT makes the unpickler allocate memory for this number of objects.
    data = pickled({})[:-1] + b"r\xff\xff\xff\x7f."
    with pytest.raises(DataError, match="refers to more objects"):
        read(tmp_path, data)


@pytest.mark.parametrize("form", ["old", "new"])
def test_what_pytorch_saves_is_read(tmp_path: Path, form: str) -> None:
    saved = ask_peer("torch", "-", tmp_path / "a.pth", tmp_path / "a.npz", form)
    found = read_torch_file(tmp_path / "a.pth")
    assert found.keys() == saved.keys() and "turned" in saved
    for name, tensor in saved.items():
        np.testing.assert_array_equal(found[name], tensor)
