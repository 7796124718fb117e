"""Estimates of a step's memory, arithmetic and memory traffic, from XLA's uncompiled program."""

from __future__ import annotations

from typing import NamedTuple

from cvpipe.preflight.program import Program, traffic


class Cost(NamedTuple):
    """The cost of one call on one chip."""

    arguments: int
    """Bytes of variables and of the batch."""
    outputs: int
    """Bytes of results that don't reuse an argument's memory."""
    temporaries: int
    """Largest number of bytes of other values that are in memory at the same time."""
    code: int
    """Bytes of the compiled program; 0 if it isn't compiled."""
    flops: float
    """Floating-point operations."""
    traffic: float
    """Bytes moved between the memory and the chip."""

    @property
    def total(self) -> int:
        """Bytes of memory."""
        return self.arguments + self.outputs + self.temporaries + self.code


def estimate(program: Program) -> Cost:
    """Estimate the cost of a program.

    The estimate assumes that every value is computed as early as possible and kept in memory until
    its last use. Compilers pad, recompute and move arrays, so the real cost differs.
    """
    values = program.values
    results = [place for number, place in enumerate(program.root) if number not in program.aliased]
    return Cost(
        arguments=sum(value.size for value in values if value.opcode == "parameter"),
        outputs=sum(values[place].size for place in set(results)),
        temporaries=_peak(program),
        code=0,
        flops=sum(value.work for value in values),
        traffic=sum(traffic(program)),
    )


def _peak(program: Program) -> int:
    """Return the peak memory in bytes of stored values, without arguments and results."""
    values = program.values
    level = [0] * len(values)
    last = [0] * len(values)
    for value in values:
        sources = program.sources[value.number]
        if value.stored:
            level[value.number] = 1 + max((level[place] for place in sources), default=0)
    for value in values:
        if value.stored:
            for place in program.sources[value.number]:
                last[place] = max(last[place], level[value.number])
    end = max(level, default=0)
    change = [0] * (end + 2)
    kept = {*program.root}
    for value in values:
        if value.stored and value.opcode != "parameter" and value.number not in kept:
            change[level[value.number]] += value.size
            change[max(last[value.number], level[value.number]) + 1] -= value.size
    now = most = 0
    for difference in change:
        now += difference
        most = max(most, now)
    return most
