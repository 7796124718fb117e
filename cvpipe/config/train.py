"""Training and export settings: length, devices, precision, checkpoints, early stopping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.section import Count, NonNegative, Positive, Probability, Section


class EarlyStopping(Section):
    """Stop when the validation score has not risen for a while."""

    patience: Count = 5
    """Evaluations without a new best score before the run stops."""


class Teacher(Section):
    """Distillation: also learn to answer as a trained run does (Hinton et al. 2015)."""

    run: str
    """The teacher's folder, such as runs/large. Relative to where the command runs."""
    temperature: Positive = 4.0
    """Softens the probabilities of classes, so that those of wrong classes teach, too; unused for
    detection, which imitates raw outputs.
    """
    weight: Probability = 0.5
    """Share of the loss that is the distance from the teacher; the rest is the pipeline's own."""


class Adversarial(Section):
    """Learn from the worst images near each example (Madry et al. 2018)."""

    epsilon: Positive
    """Largest change of a pixel, as a share of its range, such as 0.1."""
    steps: Count = 7
    """Steps of the attack; each costs as much as a step without it."""
    step_size: Positive | None = None
    """Change of a step; leave out for 2.5 × epsilon / steps."""


class Train(Section):
    """Length, devices and checkpoints of the training."""

    epochs: Count
    """Passes over the training split."""
    batch_size: Count
    """Examples a step, over all devices and workers together."""
    accumulate: Count = 1
    """Parts in which each device works through its share of a batch, adding up their gradients, to
    save memory. The step is that of the whole batch, except that a BatchNorm sees one part at a
    time.
    """
    clip_norm: Positive | None = None
    """Scale the gradient down where its norm over all weights is larger than this."""
    clip_value: Positive | None = None
    """Cut each number in the gradient off at ± this."""
    evaluate_every: Count = 1
    """Epochs between evaluations on the validation split; each saves a checkpoint."""
    checkpoint_minutes: Positive = 5.0
    """A checkpoint is also saved when this long has passed since the last."""
    checkpoints_kept: Count = 3
    """Checkpoints to keep of the last ones. A damaged one is passed over when a run is resumed."""
    non_finite: Literal["stop", "skip", "reduce"] = "stop"
    """After a loss that is NaN or infinite. stop: with an error that names the batch. skip: leave
    that batch out. reduce: go back to the evaluation before, with half the learning rate. A run
    that has gone on three times stops.
    """
    snapshots: bool = False
    """With schedule: restarts, also keep a checkpoint at the end of each cosine, for an ensemble
    (Huang et al. 2017).
    """
    early_stopping: EarlyStopping | None = None
    """Leave out to train all epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights (Polyak), used in evaluation and
    export; leave out for none.
    """
    teacher: Teacher | None = None
    """A run that teaches this one; leave out for none."""
    adversarial: Adversarial | None = None
    """Train against attacks; leave out for none."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras's dtype policy: arithmetic in half precision, weights and answers in float32."""
    xla: Literal["auto", "on", "off"] = "auto"
    """Compile the step with XLA. auto: on for GPUs and TPUs, off on CPUs, where it was slower."""
    onednn: bool = True
    """Intel's kernels on CPUs: up to twice as fast, other last bits."""
    deterministic: bool = True
    """The same bits every time, on the same machine. false lets TensorFlow take operations that
    are faster, mostly on GPUs; runs with the same seed, and runs that were interrupted, then differ
    by rounding. Data, their order and random draws stay the same.
    """
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices to train on. auto: all machines of the cluster that TF_CONFIG names, or else a TPU or
    all GPUs of this machine. In a cluster the chief writes the run's files, or the first worker if
    there is no chief.
    """
    steps_per_call: Count = 100
    """Most steps in one call of the graph; fewer where a call would last over about a second."""
    pictures: bool = True
    """Write pictures and the graph to TensorBoard."""
    histograms: bool = False
    """Write histograms of weights, gradients and activations to TensorBoard at each evaluation, and
    the gradient's norm; on one device. They are of the first training batch.
    """

    @model_validator(mode="after")
    def _parts_fit(self) -> Train:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate: {self.accumulate} equal parts can't be made of a batch_size of"
                f" {self.batch_size}"
            )
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value are two ways to clip; choose one")
        return self


class Batching(Section):
    """Batches that the graph itself makes of requests that come at the same time. For servers that
    make none; two batchings only wait for each other.
    """

    most: Count = 32
    """Images in a batch."""
    wait: NonNegative = 0.002
    """Seconds that a batch waits to be full."""
    threads: Count = 2
    """Batches that are answered at once."""


class Export(Section):
    """The SavedModel."""

    checkpoint: Literal["best", "last"] = "best"
    """Checkpoint whose weights are exported."""
    precision: Literal["trained", "float32", "bfloat16", "float16"] = "trained"
    """Arithmetic of the network; weights and answers stay float32. trained: as in training."""
    target: Literal["cpu", "gpu", "tpu"] = "cpu"
    """Processor that answers. gpu: XLA compiles the network, for each of `batch_sizes` once. tpu:
    likewise, and the network has the alias `tpu_func`, by which Google's Inference Converter finds
    it. Every artifact answers on all three; decoding and names of classes stay on the host.
    """
    batch_sizes: tuple[Count, ...] = (1, 8, 32)
    """Batches that a network is compiled for, rising: others are filled up to the next of them, and
    larger ones are compiled as they come. Unused on cpu.
    """
    batching: Batching | None = None
    """In-graph batching; leave out for none."""

    @model_validator(mode="after")
    def _batches_rise(self) -> Export:
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ValueError(f"batch_sizes {list(self.batch_sizes)} must rise, such as [1, 8, 32]")
        return self
