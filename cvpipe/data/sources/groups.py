"""Groups of examples that stay in one split, and their distribution over splits.

Dimensions: N examples, G groups, S strata, P parts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from cvpipe.config.group import Group
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError, counted

# Costs are rounded, so that processors with different rounding errors make the same assignment.
_DIGITS = 6


def group_names(source: Source, group: Group) -> list[str]:
    """Return the name of each example's group, [N].

    Raises:
        DataError: an example has no group, or the source has no such column.
    """
    if group.column is not None:
        names = source.column(group.column, "data.group.column")
    elif group.folder is not None:
        names = [_folder(name, group.folder) for name in source.names()]
    else:
        search = re.compile(group.pattern or "").search
        found = [search(name.rpartition("/")[2]) for name in source.names()]
        names = [match[1] or "" if match else "" for match in found]
    without = [index for index, name in enumerate(names) if not name]
    if without:
        key = next(iter(group.model_dump(exclude_none=True)))
        raise DataError(
            f"data.group.{key}: {counted(len(without), 'image')} of {len(names):,} in no group,"
            f" such as {source.name(without[0])}; change data.group so that each image has a group"
        )
    return names


def share_out(
    groups: Sequence[str], strata: np.ndarray, shares: Sequence[float], seed: str, fill_first: bool
) -> np.ndarray:
    """Assign examples to parts, whole groups at a time, deterministically.

    Groups are assigned in order of decreasing size. Each group goes to the part whose shares of all
    examples and of each stratum are then nearest to `shares`. With one stratum, a part differs from
    its share by less than the largest group. Groups of similar size are ranked by a hash of the
    seed and their name.

    Args:
        groups: [N], the names of the groups.
        strata: int [N].
        shares: [P], above 0, with a sum of 1.
        seed: text that the ranks depend on.
        fill_first: True if the first part must have examples of each stratum.

    Returns:
        int [N], the part of each example, 0 … P − 1.
    """
    names = sorted(set(groups))
    number = {name: row for row, name in enumerate(names)}
    member = np.array([number[name] for name in groups], np.int64)
    _, stratum = np.unique(strata, return_inverse=True)
    # Number of examples in each stratum, and in all strata.
    counts = np.zeros((len(names), stratum.max(initial=0) + 2))
    np.add.at(counts, (member, stratum), 1)
    counts[:, -1] = counts.sum(1)
    total, share = counts.sum(0), np.asarray(shares, np.float64)[:, np.newaxis]
    filled, part_of = np.zeros((len(share), len(total))), np.zeros(len(names), np.int64)
    sizes = np.frexp(counts[:, -1])[1]
    for row in sorted(range(len(names)), key=lambda row: (-sizes[row], _rank(names[row], seed))):
        added = counts[row]
        excess = filled - share * total
        cost = (((2 * excess + added) * added) / (share * total)).sum(1).round(_DIGITS)
        if fill_first and (filled[1:].sum(0) + added == total)[added > 0].any():
            cost[1:] = np.inf
        part_of[row] = cost.argmin()
        filled[part_of[row]] += added
    return part_of[member]


def crossing_groups(splits: Mapping[str, Source], group: Group | None) -> dict[str, dict[str, int]]:
    """Return the groups in several splits: the number of images by group and split."""
    if group is None:
        return {}
    found: dict[str, dict[str, int]] = {}
    for split, source in splits.items():
        for name in group_names(source, group):
            images = found.setdefault(name, {})
            images[split] = images.get(split, 0) + 1
    return {name: images for name, images in sorted(found.items()) if len(images) > 1}


def _folder(name: str, level: int) -> str:
    parts = name.split("/")
    return parts[-1 - level] if level < len(parts) else ""


def _rank(name: str, seed: str) -> bytes:
    line = f"{seed} {name}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(line, digest_size=8).digest()
