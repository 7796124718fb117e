"""Charts of numbers: bars, histograms, curves and confusion matrices.

Dimensions: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cvpipe.pictures.drawing import NAMED_CLASSES, RIGHT, TITLE
from cvpipe.pictures.drawing.text import legend_name, name_ticks, room_for, rotation_of


def bars(counts: Mapping[str, float], what: str) -> Figure:
    """Draw named numbers as bars. Names and numbers are written for up to NAMED_CLASSES bars."""
    # Beyond some 60 letters, names side by side would overlap.
    rotation = 90 if sum(map(len, counts)) > 60 else 0
    width, below = min(max(5.5, 0.4 * len(counts) + 2), 14), room_for(counts) if rotation else 0
    figure = Figure(figsize=(width, 3 + below), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(range(len(counts)), list(counts.values()))
    axes.set(ylabel=what, xticks=[])
    if len(counts) <= NAMED_CLASSES:
        axes.bar_label(bars, fmt="{:.3g}", fontsize=8)
        name_ticks(axes, "x", counts, rotation)
    return figure


def histograms(values: Mapping[str, Sequence[float]], what: str, counted: str) -> Figure:
    """Draw histograms by name over each other, with the same bins."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([np.zeros(0), *map(np.asarray, values.values())])
    bins = np.histogram_bin_edges(everything, 30)
    for name, own in values.items():
        axes.hist(own, bins.tolist(), alpha=0.6, label=legend_name(name))
    axes.set(xlabel=what, ylabel=counted)
    figure.legend(loc="outside right upper", fontsize=TITLE)
    return figure


def precision_recall(recall: Sequence[float], precision: Mapping[str, Sequence[float]]) -> Figure:
    """Draw precision over recall by class, n numbers each. The first line is thick, and the legend
    names the first 20 lines.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for n, (name, line) in enumerate(precision.items()):
        label = legend_name(name) if n < 20 else None
        axes.plot(recall, line, label=label, linewidth=1 if n else 2.5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.03))
    figure.legend(loc="outside right upper", fontsize=TITLE)
    return figure


def class_counts(counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Draw the number of images per class as bars, int [K] for each split, stacked. Names are
    written for up to NAMED_CLASSES classes.
    """
    rotation = rotation_of(classes)
    width, room = min(max(5.0, 0.4 * len(classes) + 2), 14), room_for(classes) if rotation else 0
    figure = Figure(figsize=(width, 3.5 + room), layout="constrained")
    axes = figure.subplots()
    below = np.zeros(len(classes), int)
    for split, own in counts.items():
        axes.bar(range(len(classes)), own, bottom=below, label=split)
        below = below + own
    axes.set(xlabel="class", ylabel="images")
    if len(classes) <= NAMED_CLASSES:
        name_ticks(axes, "x", classes, rotation)
    figure.legend(loc="outside right upper")
    return figure


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix from counts, int [K, K], with a row per true class. A cell's shade is
    its share of the row. Numbers are written for up to 20 classes.
    """
    size = min(max(4.0, 0.5 * len(classes) + 1), 14)
    room, rotation = room_for(classes), rotation_of(classes)
    figure = Figure(figsize=(size + room, size + (room if rotation else 0)), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= NAMED_CLASSES:
        name_ticks(axes, "x", classes, rotation)
        name_ticks(axes, "y", classes)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", fontsize=8, color=color
            )
    return figure


def reliability(bins: np.ndarray) -> Figure:
    """Draw a reliability diagram: accuracy over confidence. `bins` [bins, 3] holds (examples, sum
    of confidences, correct predictions) per bin.
    """
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    filled = bins[bins[:, 0] > 0]
    images, confidence, accuracy = (
        filled[:, 0],
        filled[:, 1] / filled[:, 0],
        filled[:, 2] / filled[:, 0],
    )
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", label="calibrated")
    # Areas show the number of images, because the accuracy of a bin with few images is uncertain.
    axes.plot(confidence, accuracy, linewidth=0.8)
    axes.scatter(
        confidence, accuracy, s=10 + 300 * images / images.sum(), label="model (area: images)"
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend()
    return figure


def curves(rows: Sequence[dict[str, Any]], score: str) -> Figure:
    """Draw the training and validation losses, and the validation score, over epochs. `rows` are
    the rows of metrics.jsonl.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split in ("train", "validation"):
        own = [row for row in rows if row["split"] == split and "loss" in row]
        if own:
            # A single evaluation is a point, which a line without markers doesn't show.
            marker = "." if split == "validation" else None
            epochs, losses = [row["epoch"] for row in own], [row["loss"] for row in own]
            left.plot(epochs, losses, marker=marker, label=split)
    scored = [row for row in rows if score in row]
    right.plot(
        [row["epoch"] for row in scored], [row[score] for row in scored], marker=".", color=RIGHT
    )
    left.set(xlabel="epoch", ylabel="loss (training: with augmentation)")
    right.set(xlabel="epoch", ylabel=f"validation {score}")
    # Evaluations are at whole epochs.
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left.lines:
        left.legend()
    return figure


def curves_together(rows: Mapping[str, Sequence[dict[str, Any]]], score: str) -> Figure:
    """Draw training loss and validation score over epochs, with a line for each run. `rows` are the
    rows of metrics.jsonl by run.
    """
    figure = Figure(figsize=(9, 3.5 + 0.2 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for n, (name, own) in enumerate(rows.items()):
        trained = [row for row in own if row["split"] == "train" and "loss" in row]
        scored = [row for row in own if score in row]
        color = f"C{n % 10}"
        left.plot(
            [row["epoch"] for row in trained],
            [row["loss"] for row in trained],
            color=color,
            label=legend_name(name),
        )
        right.plot(
            [row["epoch"] for row in scored],
            [row[score] for row in scored],
            color=color,
            marker=".",
        )
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=f"validation {score}")
    figure.legend(loc="outside lower left", fontsize=TITLE)
    return figure
