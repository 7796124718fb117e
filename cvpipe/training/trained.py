"""Loading of a run's or an ensemble's trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cvpipe.config import Config
from cvpipe.config_file import with_data
from cvpipe.data.facts import Facts
from cvpipe.evaluation import Predict, make_predict
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Networks, Task
from cvpipe.training.build import load_state
from cvpipe.training.run import Run


class Trained(NamedTuple):
    """The trained networks of a run or of an ensemble."""

    members: tuple[Networks, ...]
    steps: tuple[int, ...]
    """Number of steps that each member was trained for. Running training may have replaced the
    checkpoint since it was loaded.
    """
    predict: Predict
    task: Task
    config: Config
    facts: Facts


def load(run: Run, which: str = "best", overrides: Sequence[str] = ()) -> Trained:
    """Load a run's model at the checkpoint "best" or "last", with averaged weights if the pipeline
    has `train.ema`.

    Args:
        run: the run.
        which: name of the checkpoint.
        overrides: `data.key=value` each, for example the path of the data.

    Raises:
        DataError: the run or the checkpoint is missing or damaged.
    """
    state = load_state(run, run.checkpoint(which))
    return answering_together([state.networks], [int(state.step.numpy())], run, overrides)


def answering_together(
    members: Sequence[Networks],
    steps: Sequence[int],
    run: Run,
    overrides: Sequence[str] = (),
    answered: tuple[str, ...] = (),
) -> Trained:
    """Combine the networks of several members into one model.

    Args:
        members: the networks of each member.
        steps: number of steps that each member was trained for.
        run: the run whose configuration and data the model gets.
        overrides: `key=value` each, for keys of `data` or in `answered`.
        answered: keys outside of `data` that overrides may set.
    """
    config, facts = with_data(run.config, overrides, answered), run.facts
    task = load_task(config, facts)
    predict = make_predict(members, task, config)
    return Trained(tuple(members), tuple(steps), predict, task, config, facts)
