"""Tasks that only the tests use. `register` adds them to the package, as a line in its list of
tasks would.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

import cvpipe.config
import cvpipe.tasks
from cvpipe import config_file
from cvpipe.config import Classification, Config
from cvpipe.config.optimizer import Optimizer

DIGITS = Path(__file__).parents[2] / "pipelines" / "classification" / "digits.yaml"
# 200 steps of 32 digits.
SMALL = (
    "prepare={size: [8, 8], channels: 1, mean: [0.5], std: [0.5]}",
    "model={backbone: linear, norm: none}",
    "augment=[]",
    "loss={kind: softmax}",
    "schedule={kind: constant}",
    "train={epochs: 10, batch_size: 32, evaluate_every: 5, pictures: false}",
    "data.limit=640",
)


class Gan(Classification):
    """A pipeline of `gan`; its `optimizer` trains the generator."""

    task: Literal["gan"]  # type: ignore[assignment]
    discriminator: Optimizer
    """Optimizer of the discriminator."""

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizers of both networks."""
        return {"generator": self.optimizer, "discriminator": self.discriminator}


class Spelling(Classification):
    """A pipeline of `spelling`."""

    task: Literal["spelling"]  # type: ignore[assignment]


def register() -> None:
    """Make these tasks known to the package."""
    if str(Path(__file__).parent) not in cvpipe.tasks.__path__:
        cvpipe.tasks.__path__.append(str(Path(__file__).parent))
    cvpipe.config.Pipeline = Annotated[  # type: ignore[misc, assignment]
        Classification | Gan | Spelling, Field(discriminator="task")
    ]


def toy_config(task: str, *overrides: str) -> Config:
    """Return the pipeline of a toy task on scikit-learn's digits."""
    adam = "{kind: adam, learning_rate: 0.002, beta_1: 0.5}"
    more = [f"discriminator={adam}"] if task == "gan" else []
    return config_file.load(
        DIGITS, [f"task={task}", f"optimizer={adam}", *more, *SMALL, *overrides]
    )
