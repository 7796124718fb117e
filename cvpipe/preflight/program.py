"""XLA's program of a step as a graph of values.

XLA fuses elementwise operations into their consumers, so most of their results are never written to
memory. Values that are written to memory are called stored here: the results of operations that
aren't elementwise (convolutions, matrix products, reductions and so on), the operands of
convolutions and matrix products, and the program's results. A product below is a matrix product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import prod
from typing import Any

from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

from cvpipe.preflight.loops import iterations
from cvpipe.preflight.products import channels_of, pixels_summed, work_of

BYTES = {
    "PRED": 1, "S8": 1, "U8": 1, "S16": 2, "U16": 2, "F16": 2, "BF16": 2, "S32": 4, "U32": 4,
    "F32": 4, "S64": 8, "U64": 8, "F64": 8, "C64": 8, "C128": 16,
}  # fmt: skip
# Operations that XLA repeats wherever their results are read.
FREE = {"constant", "iota", "broadcast", "after-all", "partition-id", "replica-id"}
# Operations whose results share the memory of their operand.
RENAMED = {"bitcast", "copy", "reshape"}
PRODUCTS = {"convolution", "dot"}
NORMS = {"batch-norm-training", "batch-norm-grad", "batch-norm-inference"}
FUSED = {
    "abs", "add", "and", "atan2", "bitcast-convert", "cbrt", "ceil", "clamp", "clz",
    "compare", "complex", "concatenate", "convert", "cosine", "divide", "dynamic-slice",
    "erf", "exponential", "exponential-minus-one", "floor", "imag", "is-finite", "log",
    "log-plus-one", "logistic", "maximum", "minimum", "multiply", "negate", "not", "or", "pad",
    "popcnt", "power", "real", "reduce-precision", "remainder", "reverse", "round",
    "round-nearest-afz", "round-nearest-even", "rsqrt", "select", "shift-left",
    "shift-right-arithmetic", "shift-right-logical", "sign", "sine", "slice", "sqrt", "subtract",
    "tan", "tanh", "transpose", "xor",
}  # fmt: skip
# An elementwise result with several consumers is stored if recomputing it would read more bytes
# than this factor times its size.
WORTH_STORING = 2


@dataclasses.dataclass
class Value:
    """A result of an operation."""

    number: int
    opcode: str
    size: int
    """Bytes."""
    reads: tuple[int, ...]
    """Numbers of the values that the operation reads."""
    stored: bool
    """True if the value is written to memory."""
    name: str = ""
    """Name of TensorFlow's operation."""
    work: float = 0.0
    """Number of arithmetic operations of the convolutions and products."""
    inner: float = 0.0
    """Bytes moved inside the operation if it is a loop, branch or call."""
    users: int = 0
    """Number of values that read this value."""


def parse(hlo: bytes) -> hlo_pb2.HloModuleProto:
    """Read a serialized HloModuleProto."""
    return hlo_pb2.HloModuleProto.FromString(hlo)


def without_copies(module: hlo_pb2.HloModuleProto) -> bytes:
    """Serialize a program without its copy operations. The TPU compiler refuses StableHLO with
    copy operations, and inserts copies where it needs them.
    """
    changed = hlo_pb2.HloModuleProto()
    changed.CopyFrom(module)
    for computation in changed.computations:
        origins = {own.id: own.operand_ids[0] for own in computation.instructions
                   if own.opcode == "copy"}  # fmt: skip

        def origin(number: int, origins: dict[int, int] = origins) -> int:
            while number in origins:
                number = origins[number]
            return number

        kept = [own for own in computation.instructions if own.opcode != "copy"]
        for own in kept:
            own.operand_ids[:] = [origin(number) for number in own.operand_ids]
        computation.root_id = origin(computation.root_id)
        del computation.instructions[:]
        computation.instructions.extend(kept)
    return changed.SerializeToString()


def dynamic_operations(module: hlo_pb2.HloModuleProto) -> list[tuple[str, str]]:
    """Return the types and names of TensorFlow operations whose result has a dynamic size."""
    found = {
        (own.metadata.op_type, own.metadata.op_name): None
        for computation in module.computations
        for own in computation.instructions
        if any(own.shape.is_dynamic_dimension)
    }
    return list(found)


class Program:
    """The values of a program's entry computation, in topological order."""

    def __init__(self, module: hlo_pb2.HloModuleProto):
        self.module = module
        self._computations = {own.id: own for own in module.computations}
        self.values: list[Value] = []
        entry = self._computations[module.entry_computation_id]
        self.root = self._read(entry)
        self._store()

    @property
    def aliased(self) -> set[int]:
        """Positions, among the program's results, of those that reuse an argument's memory."""
        return {
            own.output_shape_index[0]
            for own in self.module.input_output_alias.entries
            if own.output_shape_index
        }

    def products(self) -> Iterator[tuple[Any, float, int, int]]:
        """Yield the convolutions and products that matrix units compute.

        Yields:
            The instruction, its number of arithmetic operations, and its numbers of input and
            output channels. In the gradient of a kernel, pixels count as input channels. Depthwise
            convolutions are left out, because they aren't matrix products.
        """
        for computation in self.module.computations:
            needed = _needed(computation)
            shapes = {own.id: own.shape for own in needed}
            for own in needed:
                if (
                    own.opcode in PRODUCTS
                    and max(own.feature_group_count, own.batch_group_count) <= 1
                ):
                    left, right = (shapes[number] for number in own.operand_ids[:2])
                    summed, made = channels_of(own, left, right)
                    yield own, work_of(own, left, right), pixels_summed(own) * summed, made

    def _read(self, computation: hlo_pb2.HloComputationProto) -> list[int]:
        """Add a computation's values; return the positions of its results."""
        places: dict[int, list[int]] = {}
        needed = _needed(computation)
        shapes = {own.id: own.shape for own in needed}
        for own in needed:
            given = [places[number] for number in own.operand_ids]
            reads = tuple(place for several in given for place in several)
            if own.opcode == "tuple":
                places[own.id] = list(reads)
            elif own.opcode == "get-tuple-element":
                [several] = given
                places[own.id] = [several[own.tuple_index if len(several) > 1 else 0]]
            elif own.opcode in RENAMED:
                places[own.id] = given[0]
            elif own.opcode in NORMS:
                places[own.id] = self._norm(own, reads)
            elif own.opcode in PRODUCTS:
                work = work_of(own, *(shapes[number] for number in own.operand_ids[:2]))
                places[own.id] = [self._add(own, reads, True, work)]
            else:
                stored = own.opcode not in FUSED and own.opcode not in FREE
                work, inner = self._inside(own)
                places[own.id] = [self._add(own, reads, stored, work, inner)]
        return places[computation.root_id]

    def _norm(self, own: Any, reads: tuple[int, ...]) -> list[int]:
        """Add a batch normalization: two reductions for statistics, and an elementwise result."""
        if own.opcode == "batch-norm-inference":
            return [self._add(own, reads, False)]
        whole, *small = own.shape.tuple_shapes
        sums = [self._add(own, reads, True, shape=shape) for shape in small]
        return [self._add(own, (*reads, *sums), False, shape=whole), *sums]

    def _inside(self, own: Any) -> tuple[float, float]:
        """Return the numbers of arithmetic operations and of bytes moved inside a loop, branch or
        call.
        """
        if own.opcode not in ("while", "conditional", "call"):
            return 0.0, 0.0
        work = inner = 0.0
        for number in own.called_computation_ids:
            part = Program.__new__(Program)
            part.module, part.values = self.module, []
            part._computations = self._computations
            part.root = part._read(self._computations[number])
            part._store()
            work += sum(value.work for value in part.values)
            inner += sum(traffic(part))
        times = iterations(own, self._computations) if own.opcode == "while" else 1
        return times * work, times * inner

    def _add(
        self,
        own: Any,
        reads: tuple[int, ...],
        stored: bool,
        work: float = 0.0,
        inner: float = 0.0,
        shape: Any = None,
    ) -> int:
        shape = own.shape if shape is None else shape
        free = own.opcode in FREE
        self.values.append(
            Value(
                len(self.values),
                own.opcode,
                0 if free else _size(shape),
                () if free else tuple(dict.fromkeys(reads)),
                stored,
                own.metadata.op_name,
                work,
                inner,
            )
        )
        return len(self.values) - 1

    def _store(self) -> None:
        """Decide which elementwise results are stored."""
        for value in self.values:
            for place in value.reads:
                self.values[place].users += 1
                if value.opcode in PRODUCTS and self.values[place].size:
                    self.values[place].stored = True
        for place in self.root:
            self.values[place].stored = True
        known: list[dict[int, int]] = []
        for value in self.values:
            own: dict[int, int] = {}
            for place in value.reads:
                other = self.values[place]
                own |= {place: other.size} if other.stored else known[place]
            if value.users > 1 and sum(own.values()) > WORTH_STORING * value.size > 0:
                value.stored = True
            known.append(own)
        self.sources = known
        """For each value: the stored values from which it is computed, with their bytes."""


def _needed(computation: hlo_pb2.HloComputationProto) -> list[Any]:
    """Return all parameters, and the instructions on which the results depend, in their order.

    TensorFlow's gradients contain unused instructions, such as the gradient with respect to the
    images.
    """
    reads = {own.id: own.operand_ids for own in computation.instructions}
    waiting, seen = [computation.root_id], {computation.root_id}
    while waiting:
        new = set(reads[waiting.pop()]) - seen
        seen |= new
        waiting += new
    return [own for own in computation.instructions if own.id in seen or own.opcode == "parameter"]


def traffic(program: Program) -> Iterator[float]:
    """Yield, for each stored value, the bytes that computing it moves between memory and chip."""
    for value in program.values:
        if value.stored and value.opcode != "parameter":
            yield value.inner + value.size + sum(program.sources[value.number].values())


def _size(shape: Any) -> int:
    if shape.tuple_shapes:
        return sum(_size(part) for part in shape.tuple_shapes)
    kind = xla_data_pb2.PrimitiveType.Name(shape.element_type)
    return BYTES.get(kind, 0) * prod(shape.dimensions)
