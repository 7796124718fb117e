"""The typed pipeline: every key of a pipeline file, what it means and what it may be.

Frozen and strict: an unknown key or a wrong type is an error, never a guess. Reading files, overrides and
turning errors into sentences is `config_file`'s work. TensorFlow is not imported here, so that a wrong
pipeline is reported before it loads.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cvpipe.models.catalogue import NETWORKS

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Range = tuple[Positive, Positive]


class Section(BaseModel):
    """One mapping of a pipeline file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# -- data ---------------------------------------------------------------------------------------------------


class Digits(Section):
    """scikit-learn's 1,797 handwritten digits, 8×8 grey, 10 classes; they ship inside scikit-learn."""

    kind: Literal["digits"]
    """Which format."""


class Idx(Section):
    """MNIST's format: gzip'd or plain IDX files named like train-images-idx3-ubyte.gz."""

    kind: Literal["idx"]
    """Which format."""
    path: str
    """A folder with the four files, or a zip archive that holds them. Relative to where the command runs."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the label numbers; empty: the numbers themselves."""

    @field_validator("classes")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return names


class Folder(Section):
    """A folder per class, its images inside; or train/, validation/ and test/ folders of such folders."""

    kind: Literal["folder"]
    """Which format."""
    path: str
    """The folder. Relative to where the command runs."""


Source = Annotated[Digits | Idx | Folder, Field(discriminator="kind")]


class Data(Section):
    """Where the labelled images come from."""

    source: Source
    """The format, by its `kind`, and where the files are."""
    validation: Share = 0.1
    """Share of the training split held out per class, to choose the best checkpoint; unused where the source has a validation split."""
    test: Share = 0.2
    """Share of everything held out per class for testing; unused where the source has a test split."""
    max_bad_share: Share = 0.05
    """The run stops when more than this share of a split's records can't be read. Fewer are left out and reported."""


# -- augmentation -------------------------------------------------------------------------------------------


class Flip(Section):
    """Mirror left and right."""

    op: Literal["flip"]
    """Which operation."""
    probability: Probability = 0.5
    """How often."""


class PadCrop(Section):
    """Pad on all sides, then crop the original size at a random place (He et al. 2015, section 4.2)."""

    op: Literal["pad_crop"]
    """Which operation."""
    padding: Annotated[int, Field(ge=1)] = 4
    """Pixels of the source image added on each side."""
    mode: Literal["constant", "reflect"] = "constant"
    """Pad with zeros, or with the mirrored image."""


class RandomResizedCrop(Section):
    """Crop a random area and aspect ratio, resized to the network's input (Szegedy et al. 2014, section 6)."""

    op: Literal["random_resized_crop"]
    """Which operation."""
    area: Range = (0.08, 1.0)
    """Smallest and largest share of the image's area."""
    aspect: Range = (0.75, 4 / 3)
    """Smallest and largest width / height."""

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        if self.area[0] > self.area[1] or self.area[1] > 1:
            raise ValueError("area must be [smallest, largest] with largest at most 1")
        if self.aspect[0] > self.aspect[1]:
            raise ValueError("aspect must be [smallest, largest]")
        return self


class ColourJitter(Section):
    """Change brightness, contrast, saturation and hue, in this order, each by a uniform random amount."""

    op: Literal["colour_jitter"]
    """Which operation."""
    brightness: Probability = 0.0
    """Brightness is multiplied by a factor from 1 − b to 1 + b."""
    contrast: Probability = 0.0
    """Contrast likewise, around the image's mean grey."""
    saturation: Probability = 0.0
    """Saturation likewise; colour images only."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Hue turns by −h to +h of the full circle; colour images only."""


Augmentation = Annotated[Flip | PadCrop | RandomResizedCrop | ColourJitter, Field(discriminator="op")]


class Prepare(Section):
    """What every image goes through, in training, evaluation and in the exported artefact alike."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """Height and width of the network's input, pixels."""
    channels: Literal[1, 3] = 3
    """1: grey, 3: RGB. Images are converted."""
    resize: Literal["stretch", "crop"] = "stretch"
    """stretch: to `size`, whatever the aspect. crop: keep the aspect, fill `size`, cut the middle out."""
    mean: tuple[Finite, ...] = (0.5,)
    """Subtracted from pixels in [0, 1]; one value, or one a channel."""
    std: tuple[Positive, ...] = (0.5,)
    """Then divided by this; one value, or one a channel."""

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> Prepare:
        for key in ("mean", "std"):
            given = len(getattr(self, key))
            if given not in (1, self.channels):
                raise ValueError(f"{key} has {given} values for {self.channels} channels; give one, or one a channel")
        return self


# -- model, loss, optimiser ---------------------------------------------------------------------------------


class Model(Section):
    """The network; its number of classes comes from the data."""

    backbone: str
    """One of the names that `cvpipe models` lists."""
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    """Multiplies the channels of every layer of the backbone."""
    dropout: Share = 0.0
    """Share of features dropped before the last layer."""
    batch_norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """How slowly BatchNorm's moving statistics follow; 0.99 is too slow for short runs."""

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"unknown backbone|{'|'.join(NETWORKS)}")
        return name


class Loss(Section):
    """Softmax cross-entropy, and what is added to it."""

    label_smoothing: Share = 0.0
    """This share of each label is spread evenly over all classes (Szegedy et al. 2015, section 7)."""
    l2: NonNegative = 0.0
    """l2 × the sum of squares of all kernels is added; biases and norms are left alone."""


class Sgd(Section):
    """Stochastic gradient descent, with momentum."""

    kind: Literal["sgd"]
    """Which optimizer."""
    learning_rate: Positive = 0.1
    """Highest learning rate; the schedule says how it changes."""
    momentum: Share = 0.9
    """Share of the last update kept."""
    nesterov: bool = False
    """Look ahead before the gradient is applied (Sutskever et al. 2013)."""


class Adam(Section):
    """Adam (Kingma and Ba 2014)."""

    kind: Literal["adam"]
    """Which optimizer."""
    learning_rate: Positive = 0.001
    """Highest learning rate; the schedule says how it changes."""
    beta_1: Share = 0.9
    """Decay of the first moment."""
    beta_2: Share = 0.999
    """Decay of the second moment."""
    epsilon: Positive = 1e-7
    """Added to the denominator."""


class AdamW(Adam):
    """Adam with decoupled weight decay on kernels (Loshchilov and Hutter 2017)."""

    kind: Literal["adamw"]  # type: ignore[assignment]
    """Which optimizer."""
    weight_decay: NonNegative = 0.01
    """Share of each kernel removed at a step, times the learning rate."""


Optimizer = Annotated[Sgd | Adam | AdamW, Field(discriminator="kind")]


class Constant(Section):
    """The learning rate stays where it is."""

    kind: Literal["constant"]
    """Which schedule."""
    warmup_epochs: NonNegative = 0.0
    """Epochs of linear rise from 0."""


class Step(Section):
    """The learning rate is multiplied by `factor` at each of the epochs `at`."""

    kind: Literal["step"]
    """Which schedule."""
    at: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Epochs, rising."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What it is multiplied by."""
    warmup_epochs: NonNegative = 0.0
    """Epochs of linear rise from 0."""

    @model_validator(mode="after")
    def _rising(self) -> Step:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError("at must be epochs in rising order")
        return self


class Cosine(Section):
    """Half a cosine from the highest learning rate down to `final` × it (Loshchilov and Hutter 2016)."""

    kind: Literal["cosine"]
    """Which schedule."""
    final: Share = 0.0
    """What is left at the end, as a share of the highest."""
    warmup_epochs: NonNegative = 0.0
    """Epochs of linear rise from 0."""


Schedule = Annotated[Constant | Step | Cosine, Field(discriminator="kind")]


# -- training, export ---------------------------------------------------------------------------------------


class EarlyStopping(Section):
    """Stop when the validation score has not risen for a while."""

    patience: Annotated[int, Field(ge=1)] = 5
    """Evaluations without a new best score before the run stops."""


class Train(Section):
    """How long, on what, and how it is saved."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training split."""
    batch_size: Annotated[int, Field(ge=1)]
    """Examples a step, over all devices and workers together."""
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between evaluations on the validation split; each saves a checkpoint."""
    checkpoint_minutes: Positive = 5.0
    """A checkpoint is also saved when this long has passed since the last."""
    early_stopping: EarlyStopping | None = None
    """Leave out to train all epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, used in evaluation and export; leave out for none."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras's dtype policy: arithmetic in half precision, weights and answers in float32."""
    xla: Literal["auto", "on", "off"] = "auto"
    """Compile the step with XLA. auto: on for GPUs and TPUs, off on CPUs, where it was slower."""
    onednn: bool = True
    """Intel's kernels on CPUs: up to twice as fast, other last bits."""
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices. auto: what TF_CONFIG and the machine's GPUs and TPUs suggest."""
    steps_per_call: Annotated[int, Field(ge=1)] = 100
    """Most steps in one call of the graph; fewer where a call would last over about a second."""
    pictures: bool = True
    """Write pictures and the graph to TensorBoard."""


class Export(Section):
    """The SavedModel."""

    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""
    top_k: Annotated[int, Field(ge=1)] = 5
    """How many of the most probable classes an answer names; at most the number of classes."""


class Config(Section):
    """One pipeline: one experiment."""

    task: Literal["classification"]
    """What is learned."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the run and the served model; the file's name where it is left out."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Same seed, same bits: weights, order, augmentation."""
    data: Data
    """Where the labelled images come from."""
    augment: tuple[Augmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: Prepare
    """What every image goes through, in training, evaluation and in the exported artefact alike."""
    model: Model
    """The network."""
    loss: Loss = Loss()
    """What is minimized."""
    optimizer: Optimizer
    """How it is minimized, by its `kind`."""
    schedule: Schedule = Constant(kind="constant")
    """How the learning rate changes, by its `kind`."""
    train: Train
    """How long, on what, and how it is saved."""
    export: Export = Export()
    """What the SavedModel holds and answers."""

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Config:
        if self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(f"schedule.warmup_epochs ({self.schedule.warmup_epochs:g}) must be below train.epochs ({self.train.epochs})")
        return self

    def to_json(self) -> dict[str, Any]:
        """The whole configuration, defaults included, as plain JSON values."""
        return self.model_dump(mode="json")
