"""Guards preflight's estimates: arithmetic, memory traffic, memory, padding, largest batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.preflight.estimate import Cost, estimate
from cvpipe.preflight.lowering import lower
from cvpipe.preflight.padding import padding_of
from cvpipe.preflight.program import Program, parse, without_copies
from cvpipe.preflight.roofline import Try, largest_batch, roofline
from cvpipe.preflight.targets import TARGETS, find_target

BATCH, SIDE, CHANNELS, MADE = 4, 8, 3, 16


def program(function: Callable[..., Any], *shapes: list[int]) -> Program:
    specs = tuple(tf.TensorSpec(shape, tf.float32) for shape in shapes)
    return Program(parse(lower(function, specs, 1).hlo))


def convolve(x: tf.Tensor, kernel: tf.Tensor, **options: Any) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, options.get("strides", 1), options.get("padding", "SAME"))


def pairs(strides: int, padding: str) -> int:
    """Return the number of multiplications of a 3×3 convolution: the sum of its result when all
    factors are 1.
    """
    ones = np.ones([1, SIDE, SIDE, 1], np.float32), np.ones([3, 3, 1, 1], np.float32)
    return int(tf.reduce_sum(tf.nn.conv2d(*ones, strides, padding)))


@pytest.mark.parametrize("strides, padding", [(1, "SAME"), (2, "SAME"), (2, "VALID")])
def test_arithmetic_is_counted_without_zeros_and_so_is_that_of_gradients(
    strides: int, padding: str
) -> None:
    expected = 2 * BATCH * CHANNELS * MADE * pairs(strides, padding)
    shapes = [BATCH, SIDE, SIDE, CHANNELS], [3, 3, CHANNELS, MADE]

    def forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return convolve(x, kernel, strides=strides, padding=padding)

    def backward(x: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(forward(x, kernel) ** 2)
        return tape.gradient(loss, [x, kernel])

    assert estimate(program(forward, *shapes)).flops == expected
    # Once forward, once for the images and once for the kernel.
    assert estimate(program(backward, *shapes)).flops == 3 * expected


def test_what_no_result_needs_is_not_counted() -> None:
    def first(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        convolve(x, kernel)
        return x + 1

    assert estimate(program(first, [1, 8, 8, 3], [3, 3, 3, 4])).flops == 0


def test_elementwise_operations_are_fused_and_products_are_stored() -> None:
    def two_layers(x: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.nn.relu(x @ first) @ second) + 1

    cost = estimate(program(two_layers, [64, 32], [32, 128], [128, 16]))
    x, first, middle, second, last = (
        4 * count for count in (64 * 32, 32 * 128, 64 * 128, 128 * 16, 64 * 16)
    )
    assert cost.arguments == x + first + second and cost.outputs == last
    # The middle is stored twice, before and after the ReLU: the next product reads it from memory.
    expected = x + first + middle + 2 * middle + middle + second + last + 2 * last
    assert cost.traffic == expected
    assert cost.temporaries == 2 * middle
    assert cost.flops == 2 * 64 * 32 * 128 + 2 * 64 * 128 * 16


def test_the_body_of_a_loop_counts_as_often_as_it_runs() -> None:
    def repeated(times: int, body: Any, x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda n, _: n < times, lambda n, z: (n + 1, body(z)), (0, x))[1]

    def nested(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        x = repeated(3, lambda z: repeated(5, lambda own: own @ y, z), x)
        return repeated(2, lambda z: z @ y, x)

    assert estimate(program(nested, [8, 8], [8, 8])).flops == (3 * 5 + 2) * 2 * 8**3


def test_a_loop_whose_iterations_depend_on_values_counts_once() -> None:
    def loop(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda z: z[0, 0] < 3.0, lambda z: (z @ y,), (x,))[0]

    assert estimate(program(loop, [8, 8], [8, 8])).flops == 2 * 8**3


def test_a_program_without_copies_computes_the_same_values() -> None:
    variable = tf.Variable(tf.ones([4]))

    def step(x: tf.Tensor) -> tf.Tensor:
        variable.assign_add(x)
        return tf.reduce_sum(variable)

    module = parse(lower(step, (tf.TensorSpec([4], tf.float32),), 1).hlo)
    plain = parse(without_copies(module))
    opcodes, left = (
        [own.opcode for computation in own.computations for own in computation.instructions]
        for own in (module, plain)
    )
    assert "copy" in opcodes and "copy" not in left
    assert [own for own in opcodes if own != "copy"] == left
    known = {own.id for computation in plain.computations for own in computation.instructions}
    for computation in plain.computations:
        assert computation.root_id in known
        assert all(set(own.operand_ids) <= known for own in computation.instructions)


def test_padding_is_the_share_of_lanes_that_channels_leave_empty() -> None:
    def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return convolve(x, kernel)

    half = padding_of(program(product, [1, 8, 8, 64], [1, 1, 64, 128]), 128)
    assert half.share == pytest.approx(0.5) and half.layers[0].channels == (64, 128)
    full = padding_of(program(product, [1, 8, 8, 128], [1, 1, 128, 256]), 128)
    assert full.share == 0 and not full.layers


def test_a_kernels_gradient_sums_over_pixels_and_fills_lanes_with_them() -> None:
    def gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=[1, 1, 128, 128],
            out_backprop=upstream,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )

    found = padding_of(program(gradient, [2, 8, 8, 128], [2, 8, 8, 128]), 128)
    assert found.share == 0


COST = Cost(10, 20, 30, 40, flops=197e12, traffic=819e9)


def test_a_step_takes_at_least_what_its_slowest_part_takes() -> None:
    one, four = (find_target(name) for name in ("v5e-1", "v5e-4"))
    limits = roofline(COST, one, "mixed_bfloat16", batch=8, gradients=10**9)
    assert limits.compute == pytest.approx(1) and limits.memory == pytest.approx(1)
    assert limits.exchange == 0 and limits.images_per_second == pytest.approx(8)
    shared = roofline(COST._replace(flops=0, traffic=0), four, "float32", 8, gradients=10**9)
    # Three quarters of the gradients, twice, at 200 GB/s.
    assert shared.seconds == pytest.approx(2 * 0.75 / 200) and shared.bound == "exchange"
    assert shared.images == 32
    assert COST.total == 100


def attempt_of(memory: Callable[[int], float], limit: float) -> Callable[[int], Try]:
    def attempt(batch: int) -> Try:
        fits = memory(batch) <= limit
        return Try(batch, int(memory(batch)) if fits else None, fits, 0.0)

    return attempt


def test_the_largest_batch_is_found_by_a_line_and_one_confirmation() -> None:
    found = largest_batch(attempt_of(lambda n: 100 + 10 * n, 5_000), 64, 5_000, 8)
    assert found.batch == 488 and [own.batch for own in found.tries] == [64, 16, 488]


def test_a_batch_that_does_not_fit_is_made_smaller() -> None:
    # Beyond a point memory grows faster than before.
    def memory(n: int) -> float:
        return 10 * n + max(n - 400, 0) * 5

    found = largest_batch(attempt_of(memory, 5_000), 64, 5_000, 8)
    assert 432 <= found.batch <= 466 and found.tries[-1].fits and not found.tries[-2].fits
    too_large = largest_batch(attempt_of(lambda n: 10 * n, 500), 256, 500, 8)
    assert too_large.batch == 48 and [own.fits for own in too_large.tries[:3]] == [
        False,
        False,
        False,
    ]
    assert largest_batch(attempt_of(lambda n: 1e9, 500), 64, 500, 8).batch == 0


def test_an_estimate_from_small_batches_is_corrected_with_the_batch_that_it_gave() -> None:
    # Up to 100 images, the weights take more memory than the images.
    def attempt(n: int) -> Try:
        memory = int(max(1_000 + n, 10 * n))
        return Try(n, memory, memory <= 50_000, 0.0)

    found = largest_batch(attempt, 8, 50_000, 8)
    assert 4_900 <= found.batch <= 5_000 and len(found.tries) <= 6


def test_targets_are_found_by_both_names_and_each_chip_has_a_source() -> None:
    assert find_target("V5E-4") is find_target("v5litepod-4")
    for target in TARGETS.values():
        assert target.chip.source.startswith("https://")
        assert (target.topology is None) == target.name.startswith("gpu:")
    with pytest.raises(ConfigError, match="--target v5e-3: unknown; did you mean 'v5e-"):
        find_target("v5e-3")
