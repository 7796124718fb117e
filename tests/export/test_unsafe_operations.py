"""Guards loading: a graph with operations on files or Python is refused with their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from cvpipe.errors import DataError
from cvpipe.export.operations import check_operations

Graph = Callable[[tf.Tensor], tf.Tensor]


def save(graph: Graph, folder: Path) -> Path:
    module = tf.Module()
    module.serve = tf.function(graph, input_signature=[tf.TensorSpec([], tf.string)])
    tf.saved_model.save(module, str(folder))
    return folder


def in_a_branch(x: tf.Tensor) -> tf.Tensor:
    return tf.cond(x == b"", lambda: tf.io.read_file("/etc/passwd"), lambda: x)


def in_a_data_set(x: tf.Tensor) -> tf.Tensor:
    return tf.data.Dataset.from_tensors(x).map(tf.io.read_file).get_single_element()


def written(x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.io.write_file("/tmp/gift", x)]):
        return tf.identity(x)


def printed(x: tf.Tensor) -> tf.Tensor:
    tf.print(x, output_stream="file:///tmp/gift")
    return x


def as_text(x: tf.Tensor) -> tf.Tensor:
    variant = tf.raw_ops.DatasetFromGraph(graph_def=x)
    return tf.raw_ops.DatasetToSingleElement(
        dataset=variant, output_types=[tf.string], output_shapes=[[]]
    )[0]


UNSAFE: dict[str, tuple[Graph, str]] = {
    "reads a file": (tf.io.read_file, "ReadFile"),
    "reads a file in a branch": (in_a_branch, "ReadFile"),
    "reads a file in a data set": (in_a_data_set, "ReadFile"),
    "writes a file": (written, "WriteFile"),
    "prints to a file": (printed, "PrintV2"),
    "lists files": (tf.io.matching_files, "MatchingFiles"),
    "calls Python": (lambda x: tf.numpy_function(lambda y: y, [x], tf.string), "PyFunc"),
    "runs a graph that arrives as text": (as_text, "DatasetFromGraph"),
    "reads a checkpoint": (
        lambda x: tf.raw_ops.RestoreV2(
            prefix=x, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string]
        )[0],
        "RestoreV2",
    ),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_a_graph_with_an_unsafe_operation_is_refused_by_name(name: str, tmp_path: Path) -> None:
    graph, operation = UNSAFE[name]
    with pytest.raises(DataError, match=f"contains the operation {operation}"):
        check_operations(save(graph, tmp_path / "model"))


def test_a_graph_of_tensors_and_variables_is_accepted(tmp_path: Path, artifact: Path) -> None:
    check_operations(save(lambda x: tf.strings.upper(x) + b"!", tmp_path / "model"))
    check_operations(artifact)


def test_a_damaged_graph_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the graph can't be read"):
        check_operations(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(DataError, match="the graph can't be read"):
        check_operations(tmp_path)
