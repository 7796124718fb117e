"""Guards loading: a graph with operations on files or Python is refused with their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

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


def named_as_a_function_of_the_saver(x: tf.Tensor) -> tf.Tensor:
    @tf.function(autograph=False)
    def traced_save(x: tf.Tensor) -> tf.Tensor:
        tf.raw_ops.SaveV2(prefix=x, tensor_names=["a"], shape_and_slices=[""], tensors=[x])
        return x

    return traced_save(x)


def ended(x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.raw_ops.Abort()]):
        return tf.identity(x)


def as_a_message(x: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_proto(x, "a.B", [], [], descriptor_source="/etc/passwd")[0]


def mapped_to_memory(x: tf.Tensor) -> tf.Tensor:
    file = tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[9], memory_region_name="/etc/passwd")
    return tf.strings.join([x, tf.strings.as_string(file)[0]])


UNSAFE: dict[str, tuple[Graph, str]] = {
    "reads a file": (tf.io.read_file, "ReadFile"),
    "reads a file in a branch": (in_a_branch, "ReadFile"),
    "reads a file in a data set": (in_a_data_set, "ReadFile"),
    "writes a file": (written, "WriteFile"),
    "prints to a file": (printed, "PrintV2"),
    "lists files": (tf.io.matching_files, "MatchingFiles"),
    "calls Python": (lambda x: tf.numpy_function(lambda y: y, [x], tf.string), "PyFunc"),
    "runs a graph that arrives as text": (as_text, "DatasetFromGraph"),
    "maps a file to memory": (mapped_to_memory, "ImmutableConst"),
    "reads a description of messages": (as_a_message, "DecodeProtoV2"),
    "ends the process": (ended, "Abort"),
    "writes a checkpoint in a function named as those of savers": (
        named_as_a_function_of_the_saver,
        "SaveV2",
    ),
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


def test_functions_that_save_weights_are_refused_if_a_signature_or_a_function_can_call_them(
    tmp_path: Path,
) -> None:
    folder = save(tf.strings.upper, tmp_path / "model")
    check_operations(folder)
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (graph,) = model.meta_graphs
    saver = next(f for f in graph.graph_def.library.function if "save" in f.signature.name)

    def refused(changed: saved_model_pb2.SavedModel) -> None:
        (folder / "saved_model.pb").write_bytes(changed.SerializeToString())
        with pytest.raises(DataError, match="contains the operation (SaveV2|Merge|Sharded)"):
            check_operations(folder)

    calls = saved_model_pb2.SavedModel.FromString(model.SerializeToString())
    caller = next(
        f
        for f in calls.meta_graphs[0].graph_def.library.function
        if "signature_wrapper" in f.signature.name
    )
    caller.node_def.add(name="more", op="PartitionedCall").attr[
        "f"
    ].func.name = saver.signature.name
    refused(calls)
    is_signature = saved_model_pb2.SavedModel.FromString(model.SerializeToString())
    known = is_signature.meta_graphs[0].object_graph_def.concrete_functions
    known[saver.signature.name].SetInParent()
    refused(is_signature)


def test_a_graph_of_tensors_and_variables_is_accepted(tmp_path: Path, artifact: Path) -> None:
    check_operations(save(lambda x: tf.strings.upper(x) + b"!", tmp_path / "model"))
    check_operations(artifact)


def test_a_damaged_graph_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the graph can't be read"):
        check_operations(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(DataError, match="the graph can't be read"):
        check_operations(tmp_path)
