"""Numbers of iterations of loops in XLA's programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

Computations = Mapping[int, hlo_pb2.HloComputationProto]
# Operations that don't change a number.
_SAME = {"bitcast", "broadcast", "convert", "copy", "reshape"}


def iterations(loop: Any, computations: Computations) -> int:
    """Return the number of iterations of a loop that counts from 0 to a constant; 1 for other
    loops, whose number depends on values.
    """
    for number in loop.called_computation_ids:
        condition = computations[number]
        if condition.program_shape.result.element_type == xla_data_pb2.PRED:
            return _bound(computations, condition, condition.root_id) or 1
    return 1


def _bound(
    computations: Computations, computation: hlo_pb2.HloComputationProto, place: int, index: int = 0
) -> int | None:
    """Return the constant that a value, the condition of a loop, compares with; None if there is
    none. `index` selects an element of a tuple.
    """
    known = {own.id: own for own in computation.instructions}
    own = known[place]
    operands = list(own.operand_ids)
    if own.opcode == "get-tuple-element":
        return _bound(computations, computation, operands[0], own.tuple_index)
    if own.opcode == "tuple":
        return _bound(computations, computation, operands[index])
    if own.opcode == "call":
        called = computations[own.called_computation_ids[0]]
        return _bound(computations, called, called.root_id, index)
    if own.opcode in ("and", *_SAME):
        bounds = [_bound(computations, computation, operand) for operand in operands]
        return min((bound for bound in bounds if bound is not None), default=None)
    if own.opcode != "compare" or own.comparison_direction != "LT":
        return None
    limit = known[operands[1]]
    while limit.opcode in _SAME:
        limit = known[limit.operand_ids[0]]
    values = [*limit.literal.s32s, *limit.literal.s64s]
    return int(values[0]) if len(values) == 1 else None
