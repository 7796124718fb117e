"""A recurrent controller that learns by REINFORCE to draw choices with high scores (Zoph and Le
2017, section 3).

A trial consists of T choices, one for each search dimension; a choice has n possible values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.search.draw import MOST_DRAWS
from cvpipe.search.evolution import Genes, values_of
from cvpipe.search.space import Choices, Value

# Units and layers of the LSTM, and largest absolute initial weight, as in the paper's appendix A.
UNITS, LAYERS, RANGE = 35, 2, 0.08
# Learning rate. The paper's 0.0006 is for thousands of trials; a sweep has tens.
RATE = 0.01
DECAY = 0.9
"""Decay of the moving average of rewards, which is the baseline."""


class Controller:
    """The `draw.Sampler` that learns from scores. `seed` determines initial weights and draws.

    If the policy draws an earlier trial again, it draws once more and doesn't learn from the
    repetition. Otherwise the policy would soon draw nothing else.
    """

    def __init__(self, seed: int):
        self._seed, self._draws = seed, 0
        self._policy: Policy | None = None
        self._taken: set[Genes] = set()
        self._baseline: float | None = None

    def ask(self, space: Sequence[Choices]) -> tuple[Genes, dict[str, Value]] | None:
        """Draw a new trial, `Sampler.ask`."""
        if self._policy is None:
            self._policy = Policy([len(dimension.texts) for dimension in space], self._seed)
        for _ in range(MOST_DRAWS):
            self._draws += 1
            drawn = self._policy.draw(tf.constant([self._seed, self._draws], tf.int32))
            genes = tuple(int(choice) for choice in drawn)
            if genes not in self._taken:
                self._taken.add(genes)
                return genes, values_of(space, genes)
        return None

    def tell(self, asked: Genes, merit: float | None) -> None:
        """Learn from a trial's score, `Sampler.tell`. Failed trials are ignored."""
        if merit is None or self._policy is None:
            return
        baseline = merit if self._baseline is None else self._baseline
        self._policy.learn(tf.constant(asked), tf.constant(merit - baseline, tf.float32))
        self._baseline = DECAY * baseline + (1 - DECAY) * merit


class Policy:
    """An LSTM that makes T choices one after another. Its input is the embedding of the previous
    choice; each choice has its own softmax layer. All methods run as static graphs.

    Args:
        counts: number n of possible values for each choice.
        seed: determines the initial weights.
    """

    def __init__(self, counts: Sequence[int], seed: int):
        count = 2 * (LAYERS + len(counts))
        seeds = iter(np.random.SeedSequence(seed).generate_state(count).tolist())

        def uniform() -> keras.initializers.Initializer:
            return keras.initializers.RandomUniform(-RANGE, RANGE, seed=next(seeds))

        self._cells = [
            keras.layers.LSTMCell(
                UNITS, kernel_initializer=uniform(), recurrent_initializer=uniform()
            )
            for _ in range(LAYERS)
        ]
        self._scores = [keras.layers.Dense(n, kernel_initializer=uniform()) for n in counts]
        self._embeddings = [keras.layers.Embedding(n, UNITS, uniform()) for n in counts]
        layers = [*self._cells, *self._scores]
        for layer in layers:
            layer.build((1, UNITS))
        for embedding in self._embeddings:
            embedding.build()
        self._variables = [
            variable
            for layer in (*layers, *self._embeddings[:-1])
            for variable in layer.trainable_variables
        ]
        self._optimizer = keras.optimizers.Adam(RATE)
        self._optimizer.build(self._variables)

    @tf.function
    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        """Return random choices, int32 [T], determined by a seed, int32 [2]."""

        def drawn(number: int, scores: tf.Tensor) -> tf.Tensor:
            own = tf.random.experimental.stateless_fold_in(seed, number)
            return tf.random.stateless_categorical(scores, 1, own, tf.int32)[0, 0]

        return self._unrolled(drawn)[0]

    @tf.function
    def log_probability(self, choices: tf.Tensor) -> tf.Tensor:
        """Return the logarithm of the probability of choices, int32 [T]; float32 scalar."""
        return self._unrolled(lambda number, scores: choices[number])[1]

    @tf.function
    def learn(self, choices: tf.Tensor, advantage: tf.Tensor) -> None:
        """Take one step along the policy gradient: the gradient of the log probability of choices,
        int32 [T], times the advantage, a float32 scalar.
        """
        with tf.GradientTape() as tape:
            loss = -advantage * self._unrolled(lambda number, scores: choices[number])[1]
        gradients = tape.gradient(loss, [variable.value for variable in self._variables])
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        self._optimizer.apply(dense, self._variables)

    def _unrolled(
        self, choose: Callable[[int, tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return choices, int32 [T], and the logarithm of their probability.

        `choose` takes the number of a choice and the logits of its values, float32 [1, n], and
        returns a value.
        """
        x = tf.zeros([1, UNITS])
        states: list[Any] = [[x, x] for _ in self._cells]
        choices, total = [], tf.constant(0.0)
        for number, (score, embedding) in enumerate(
            zip(self._scores, self._embeddings, strict=True)
        ):
            for index, cell in enumerate(self._cells):
                x, states[index] = cell(x, states[index])
            scores = score(x)
            choice = choose(number, scores)
            total += tf.nn.log_softmax(scores)[0, choice]
            choices.append(choice)
            x = embedding(choice[tf.newaxis])
        return tf.stack(choices), total
