"""Warnings about mirrored training images."""

from __future__ import annotations

import logging

from cvpipe.config import Config
from cvpipe.config.augment.geometry import Flip
from cvpipe.data.sources import Source

log = logging.getLogger(__name__)


def warn_of_mirroring(config: Config, source: Source) -> None:
    """Warn if training images are mirrored although some annotations can't be mirrored."""
    for number, op in enumerate(config.augment):
        if not isinstance(op, Flip) or not op.probability:
            continue
        for reason in filter(None, (a.mirror_fault(source.facts) for a in source.annotations)):
            log.warning(
                "augment.%d: flip mirrors images, but %s, or leave flip out", number, reason
            )
        return
