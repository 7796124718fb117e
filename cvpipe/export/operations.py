"""Refusal of SavedModels with operations that access more than their own tensors and variables.

Loading a SavedModel runs no Python code of its author. However, TensorFlow has graph operations
that read and write files, connect to other machines, print, and call Python functions. cvpipe's
artifacts contain no such operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.python.framework import op_def_registry

from cvpipe.errors import DataError

# Words in the names of inputs and attributes of operations that access files, other machines, the
# console, Python functions, or serialized graphs.
_UNSAFE_NAMES = re.compile(
    r"(^|_)(file|files|filename|filenames|path|dir|directory|logdir|prefix|prefixes|address"
    r"|server|urls?|uri|token|output_stream|driver_name|file_pattern)(_|$)"
    r"|^patterns?$|^graph_def$|^memory_region_name$|^descriptor_source$|^call_target_name$"
)
# Ends the process.
_UNSAFE = {"Abort"}
# Exceptions: "pattern" also names regular expressions, and TensorSliceDataset reads no files,
# although it has an attribute "is_files".
_HARMLESS = {
    "RegexFullMatch",
    "RegexReplace",
    "StaticRegexFullMatch",
    "StaticRegexReplace",
    "TensorSliceDataset",
}
# Allowed stateful operations: variables, branches, loops, function calls, assertions, constant
# lookup tables, and datasets of one element, with which cvpipe catches errors.
_STATEFUL = {
    "Assert",
    "AssignVariableOp",
    "Case",
    "DatasetToSingleElement",
    "DisableCopyOnRead",
    "EnsureShape",
    "HashTableV2",
    "If",
    "LookupTableFindV2",
    "LookupTableImportV2",
    "PartitionedCall",
    "Placeholder",
    "RangeDataset",
    "ReadVariableOp",
    "StatefulPartitionedCall",
    "TensorDataset",
    "TensorSliceDataset",
    "VarHandleOp",
    "VarIsInitializedOp",
    "While",
}
# Operations with which TensorFlow reads and writes weights. The file is chosen by whoever loads or
# saves the model, not by the model's author.
_OF_LOADING = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}


def check_operations(folder: Path) -> saved_model_pb2.SavedModel:
    """Search an artifact's graph for operations that access more than tensors and variables.

    Returns:
        The parsed saved_model.pb.

    Raises:
        DataError: there is such an operation, or the graph can't be read.
    """
    file = folder / "saved_model.pb"
    try:
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise DataError(
            f"{file}: the graph can't be read ({error}); export the run again"
        ) from None
    found: set[str] = set()
    for meta_graph in model.meta_graphs:
        graph, of_saver = meta_graph.graph_def, _functions_of_saver(meta_graph)
        found |= {node.op for node in graph.node}
        for function in graph.library.function:
            operations = {node.op for node in function.node_def}
            is_of_saver = function.signature.name in of_saver
            found |= operations - _OF_LOADING if is_of_saver else operations
        # The operation of a node can be a function of the graph, whose nodes are checked above.
        found -= {function.signature.name for function in graph.library.function}
    if unsafe := sorted(filter(_is_unsafe, found)):
        raise DataError(
            f"{file}: contains the operation {unsafe[0]}, which can access files, other machines"
            " or the host program. cvpipe never exports it, so the model is not loaded"
        )
    return model


def _functions_of_saver(meta_graph: MetaGraphDef) -> set[str]:
    """Return the functions that read and write weights, without those that a signature or another
    function can call.
    """
    saver, graph = meta_graph.saver_def, meta_graph.graph_def
    saving = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    used = _called(node for node in graph.node if node.name in saving)
    others = [node for node in graph.node if node.name not in saving]
    others += [node for function in graph.library.function for node in function.node_def]
    return used - _called(others) - set(meta_graph.object_graph_def.concrete_functions)


def _called(nodes: Iterable[NodeDef]) -> set[str]:
    """Return the names of all functions that nodes call."""
    names: set[str] = set()
    for node in nodes:
        names.add(node.op)
        for attribute in node.attr.values():
            names |= {attribute.func.name, *(each.name for each in attribute.list.func)}
    return names


def _is_unsafe(operation: str) -> bool:
    definition: OpDef | None = op_def_registry.get(operation)
    if definition is None or operation in _UNSAFE:
        return True
    if definition.is_stateful and operation not in _STATEFUL:
        return True
    names = [*(arg.name for arg in definition.input_arg), *(attr.name for attr in definition.attr)]
    return operation not in _HARMLESS and any(map(_UNSAFE_NAMES.search, names))
