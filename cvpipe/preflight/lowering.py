"""Lowering of the graphs of training and prediction to XLA, without an accelerator.

XLA, and therefore a TPU, can't compile some operations, such as string operations and calls of
Python. TensorFlow's lowering to XLA for CPUs refuses the same operations, and needs no other
package.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework import kernels

from cvpipe.errors import UserError

DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"
# Operations without kernels, which XLA drops.
SKIPPED = {"Placeholder", "NoOp", "Assert"}
# Lines in these folders aren't reported as the origin of an operation.
LIBRARIES = ("site-packages", "dist-packages", "__autograph_generated")


class Culprit(NamedTuple):
    """An operation because of which a graph can't be compiled."""

    op: str
    """Type of the operation, such as EagerPyFunc."""
    name: str
    """Name of the operation in the graph."""
    place: str
    """File and line that created the operation; empty if unknown."""
    reason: str

    def line(self) -> str:
        """Describe the culprit in one sentence."""
        made = f", made in {self.place}" if self.place else ""
        return f"{self.op} ({self.name}{made}) {self.reason}"


class Uncompilable(UserError):
    """A graph that XLA can't compile."""

    def __init__(self, culprits: Sequence[Culprit]):
        super().__init__("; ".join(culprit.line() for culprit in culprits))
        self.culprits = tuple(culprits)


class Lowered(NamedTuple):
    """A graph lowered to XLA for one chip."""

    hlo: bytes
    """Serialized HloModuleProto, before any optimization."""
    batch: int
    """Number of images."""
    seconds: float
    """Duration of tracing and lowering."""
    left_out: tuple[str, ...] = ()
    """Names of string outputs, which aren't part of the graph because the host computes them."""


def lower(function: Callable[..., Any], specs: Any, batch: int) -> Lowered:
    """Lower a function of tensors with known shapes.

    Args:
        function: graph code; it may change variables.
        specs: nested tf.TensorSpec of the function's arguments.
        batch: number of images, stored in the result.

    Raises:
        Uncompilable: XLA lacks some operations, which the error lists.
    """
    began = time.monotonic()
    flat = tf.nest.flatten(specs)

    def call(*given: tf.Tensor) -> Any:
        return function(*tf.nest.pack_sequence_as(specs, given))

    compiled = tf.function(call, jit_compile=True, autograph=False)
    graph = compiled.get_concrete_function(*flat).graph
    if culprits := list(host_operations(graph)):
        raise Uncompilable(culprits)
    try:
        with warnings.catch_warnings():
            # `device_name` is deprecated, but without it TensorFlow draws a random number.
            warnings.simplefilter("ignore")
            hlo = compiled.experimental_get_compiler_ir(*flat)(
                stage="hlo_serialized", device_name=DEVICE
            )
    except (ValueError, tf.errors.OpError) as error:
        raise Uncompilable([_blamed(str(error))]) from None
    return Lowered(hlo, batch, time.monotonic() - began)


def without_strings(
    function: Callable[..., Any], specs: Any
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Return a function without its string outputs, and the names of these outputs.

    Args:
        function: maps tensors described by `specs` to outputs by name.
        specs: nested tf.TensorSpec of the function's arguments.
    """
    flat = tf.nest.flatten(specs)
    traced = tf.compat.v1.wrap_function(
        lambda *given: function(*tf.nest.pack_sequence_as(specs, given)), flat
    )
    outputs = traced.structured_outputs
    strings = tuple(name for name, value in outputs.items() if value.dtype == tf.string)
    kept = {name: value for name, value in outputs.items() if name not in strings}
    # Prune the graph, because XLA refuses even unused operations.
    pruned = traced.prune(traced.inputs[: len(flat)], kept)
    return lambda *given: pruned(*tf.nest.flatten(given)), strings


def host_operations(graph: tf.Graph) -> Iterator[Culprit]:
    """Find operations without an XLA kernel in a graph and in the functions that it calls."""
    waiting, seen = [graph], set()
    while waiting:
        own = waiting.pop()
        for op in own.get_operations():
            called = _called(own, op)
            names = {id(other) for other in called}
            waiting += [other for other in called if id(other) not in seen]
            seen |= names
            if not called and op.type not in SKIPPED and not _has_xla_kernel(op.type):
                yield Culprit(op.type, op.name, _place(op), "runs only on a host")


def _has_xla_kernel(kind: str) -> bool:
    devices = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(kind).kernel}
    return not devices or any(device.startswith("XLA_") for device in devices)


def _called(graph: tf.Graph, op: tf.Operation) -> list[tf.Graph]:
    """Return the graphs of the functions that an operation calls."""
    names = [
        function.name
        for value in op.node_def.attr.values()
        for function in (value.func, *value.list.func)
        if function.name
    ]
    found = []
    for name in names:
        try:
            # TensorFlow has no public access to the graphs of a graph's functions.
            found.append(graph._get_function(name).graph)
        except AttributeError:
            continue
    return found


def _place(op: tf.Operation) -> str:
    """Return the innermost line of the operation's traceback that isn't in a library."""
    frames = [
        frame
        for frame in op.traceback or ()
        if not any(folder in frame.filename for folder in LIBRARIES)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _blamed(said: str) -> Culprit:
    """Return the operation that is named in an error of TensorFlow's lowering."""
    op = re.search(r"(\w+) \(No registered '(\w+)' OpKernel", said)
    node = re.search(r"\{\{node ([^}]+)\}\}", said)
    lines = re.findall(r'File "([^"]+)", line (\d+)', said)
    own = [f"/{file.lstrip('/')}:{line}" for file, line in lines if "site-packages" not in file]
    if op is None:
        return Culprit(
            "XLA", node[1] if node else "?", own[-1] if own else "", f"says: {said[:500]}"
        )
    reason = "runs only on a host"
    if "attributes didn't match" in said:
        types = ", ".join(sorted(set(re.findall(r"=DT_(\w+)", said)))).lower()
        reason = f"doesn't run on a chip for these types: {types}"
    return Culprit(op[2], node[1] if node else op[2], own[-1] if own else "", reason)
