"""Training and export settings: length, devices, precision, checkpoints, early stopping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.section import Count, NonNegative, Positive, Probability, Section


class EarlyStopping(Section):
    """Stop when the validation score stops improving."""

    patience: Count = 5
    """Evaluations without a new best score before the run stops."""


class Teacher(Section):
    """Distillation: also learn to imitate a trained run (Hinton et al. 2015)."""

    run: str
    """The teacher's folder, such as runs/large. Relative to where the command runs."""
    temperature: Positive = 4.0
    """Softens the class probabilities, which gives wrong classes more influence; unused for
    detection and pose, which imitate raw outputs.
    """
    weight: Probability = 0.5
    """Weight of the distance from the teacher. The ordinary loss has the weight 1 −
    weight.
    """


class Adversarial(Section):
    """Adversarial training: learn from attacked images (Madry et al. 2018)."""

    epsilon: Positive
    """Largest change of a pixel, as a share of the range of pixel values, such as 0.1."""
    steps: Count = 7
    """Steps of the attack; on attacked images, each costs as much as a training step."""
    step_size: Positive | None = None
    """Change per step of the attack; omit for 2.5 × epsilon / steps."""
    clean: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each batch that is not attacked, for a higher accuracy without attacks and faster
    steps. It is rounded to whole images of each part that a device processes at once.
    """


class Train(Section):
    """Length, devices and checkpoints of the training."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    """Passes over the training split."""
    batch_size: Count
    """Examples per step, over all devices and workers together."""
    accumulate: Count = 1
    """Gradient accumulation: number of parts in which each device processes its share of a batch,
    which saves memory. The step equals a step on the whole batch, except that BatchNorm sees one
    part at a time.
    """
    clip_norm: Positive | None = None
    """Scale the gradient down to this norm, over all weights, if it is larger."""
    clip_value: Positive | None = None
    """Clip each value of the gradient to ± clip_value."""
    evaluate_every: Count = 1
    """Epochs between evaluations on the validation split; each saves a checkpoint."""
    checkpoint_minutes: Positive = 5.0
    """Longest time between checkpoints, in minutes."""
    checkpoints_kept: Count = 3
    """Number of the latest checkpoints to keep. A damaged checkpoint is skipped when a run is
    resumed.
    """
    non_finite: Literal["stop", "skip", "reduce"] = "stop"
    """Reaction to a NaN or infinite loss. stop: end with an error that names the batch. skip: skip
    that batch. reduce: return to the last evaluation, with half the learning rate. A run recovers
    at most three times.
    """
    snapshots: bool = False
    """With schedule: restarts, also keep a checkpoint at the end of each cosine, for an ensemble
    (Huang et al. 2017).
    """
    early_stopping: EarlyStopping | None = None
    """Early stopping; omit to train all epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights (Polyak), used in evaluation and
    export; omit for none.
    """
    teacher: Teacher | None = None
    """A run to imitate; omit for none."""
    adversarial: Adversarial | None = None
    """Adversarial training; omit for none."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras dtype policy. The mixed policies compute in half precision; weights and answers stay
    float32.
    """
    xla: Literal["auto", "on", "off"] = "auto"
    """Compile the step with XLA. auto: on for GPUs and TPUs, off on CPUs, where it was slower."""
    onednn: bool = True
    """Use oneDNN, Intel's kernels, on CPUs: up to twice as fast, with other rounding."""
    deterministic: bool = True
    """true: repeated runs on the same machine give the same bits. false: faster operations are
    allowed, mostly on GPUs; repeated and interrupted runs then differ by rounding. The data, its
    order and random draws stay the same.
    """
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices to train on. auto: all machines of the cluster in TF_CONFIG; without a cluster, a TPU
    or all GPUs of this machine. In a cluster the chief, or else the first worker, writes the run's
    files.
    """
    steps_per_call: Count = 100
    """Largest number of steps per call of the graph; fewer if a call would exceed about a second.
    """
    pictures: bool = True
    """Write pictures and the graph to TensorBoard."""
    histograms: bool = False
    """Write histograms of weights, gradients and activations, and the gradient's norm, to
    TensorBoard at each evaluation; on one device, for the first training batch.
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
    """Batching of concurrent requests inside the graph. Meant for servers that don't batch requests
    themselves.
    """

    most: Count = 32
    """Largest number of images in a batch."""
    wait: NonNegative = 0.002
    """Seconds that a batch waits for more images."""
    threads: Count = 2
    """Number of batches that are computed in parallel."""


ExportedMethod = Literal[
    "saliency",
    "gradient_input",
    "smooth_grad",
    "integrated_gradients",
    "grad_cam",
    "grad_cam_pp",
    "score_cam",
    "occlusion",
    "rise",
]
"""Methods of explanation that need no second copy of the network."""


class Export(Section):
    """The SavedModel."""

    checkpoint: Literal["best", "last"] = "best"
    """Checkpoint whose weights are exported."""
    precision: Literal["trained", "float32", "bfloat16", "float16"] = "trained"
    """Precision of the network; weights and answers stay float32. trained: as in training."""
    target: Literal["cpu", "gpu", "tpu"] = "cpu"
    """Target processor. gpu: the network is compiled by XLA, once for each of `batch_sizes`. tpu:
    also adds the alias `tpu_func` for Google's Inference Converter. Every artifact runs on all
    three; decoding and class names stay on the host.
    """
    batch_sizes: tuple[Count, ...] = (1, 8, 32)
    """Batch sizes to compile for, in ascending order. Other batches are padded to the next size;
    larger ones are compiled on demand. Unused on cpu.
    """
    batching: Batching | None = None
    """In-graph batching; omit for none."""
    tolerance: Annotated[float, Field(gt=0, le=0.1)] | None = None
    """Largest difference between the artifact's answers and those of evaluation, relative for
    numbers above 1. Omit for the limit of the precision, such as 1e-5 for float32. Set it only for
    networks that amplify rounding, such as a narrow NASNet.
    """
    explain: tuple[ExportedMethod, ...] = ()
    """Methods of `cvpipe explain` for the signature `explain`, which adds their maps to the
    answers. Without methods there is no such signature.
    """

    @model_validator(mode="after")
    def _batch_sizes_ascend(self) -> Export:
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ValueError(
                f"batch_sizes {list(self.batch_sizes)} must be in ascending order, such as [1, 8,"
                " 32]"
            )
        return self
