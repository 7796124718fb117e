"""The folder of a run.

config.json         the whole configuration, including defaults
run.json            classes, split sizes, digests of the data, package versions
metrics.jsonl       a JSON object per line: training and validation scores by step
quarantine.jsonl    records that couldn't be read
checkpoints/        last.npz, earlier-STEP.npz, best.npz; with `train.snapshots` also snapshot-1.npz
                    and so on
train/, validation/ TensorBoard events
report.md           scores and pictures/ of the test split; report-validation.md and so on
report.html         the same report as one file
scores-test.json    the numbers of the report; scores-validation.json and so on
weights.json        source, license and checksum of `model.weights`, if set
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvpipe import __version__, config_file
from cvpipe.atomic_write import atomic_write
from cvpipe.config import Config
from cvpipe.data.facts import Facts, KnownData
from cvpipe.errors import ConfigError, DataError, UserError, instead_of_folder, refuse_file
from cvpipe.json_files import jsonable, write_json
from cvpipe.models.weights.provenance import Provenance
from cvpipe.training.checkpoints import damaged_checkpoints, earlier_checkpoints
from cvpipe.training.continuing import check_same_config, check_same_data


class Run:
    """Paths and small files of one run.

    `writes` is False in processes that must not write files: all workers but the chief.
    """

    def __init__(self, folder: str | Path, writes: bool = True):
        self.folder, self.writes = Path(folder), writes
        self.config_file = self.folder / "config.json"
        self.known_file = self.folder / "run.json"
        self.metrics_file = self.folder / "metrics.jsonl"
        self.quarantine_file = self.folder / "quarantine.jsonl"
        self.weights_file = self.folder / "weights.json"

    @property
    def is_writable(self) -> bool:
        """False if files can't be written to the run's folder."""
        return os.access(self.folder, os.W_OK)

    def report(self, split: str) -> Path:
        """Return the report on a split; report.md is that of the test split."""
        return self.folder / ("report.md" if split == "test" else f"report-{split}.md")

    def pictures(self, split: str) -> Path:
        """Return the folder of the pictures of the report on a split."""
        return self.folder / ("pictures" if split == "test" else f"pictures-{split}")

    def scores_file(self, split: str) -> Path:
        """Return the JSON file with the scores of the report on a split."""
        return self.folder / f"scores-{split}.json"

    def measured(self, step: int) -> dict[str, dict[str, float]]:
        """Return the reported scores by split, if they were measured after `step` steps."""
        found = {}
        for file in sorted(self.folder.glob("scores-*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                values = json.loads(file.read_text(encoding="utf-8"))
                if values["step"] == step:
                    found[str(values["split"])] = values["measured"]
        return found

    def checkpoint(self, which: str) -> Path:
        """Return the checkpoint file "best" or "last". If there is no "best", because there was no
        validation, return "last".
        """
        file = self.folder / "checkpoints" / f"{which}.npz"
        return file if which != "best" or file.exists() else self.checkpoint("last")

    def snapshots(self) -> list[Path]:
        """Return the checkpoints at the ends of the cosine cycles of `schedule: restarts`, in
        order.
        """
        files = self.folder.glob("checkpoints/snapshot-*.npz")
        return sorted(files, key=lambda file: int(file.stem.removeprefix("snapshot-")))

    @property
    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            DataError: the folder contains no run.
        """
        try:
            return config_file.parse(
                self.config_file.read_text(encoding="utf-8"), str(self.config_file)
            )
        except (FileNotFoundError, NotADirectoryError):
            missing = "not a run (no config.json); train one with: cvpipe train PIPELINE.yaml"
            raise DataError(f"{self.folder}: {instead_of_folder(self.folder) or missing}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(self.config_file, error) from None

    @property
    def known(self) -> KnownData:
        """The recorded facts and digests of the run's data.

        Raises:
            DataError: run.json is missing or damaged.
        """
        values = self._read_known()
        return KnownData(
            facts=values["facts"],
            examples=values["examples"],
            digests=values["digests"],
            images=values["images"],
        )

    @property
    def facts(self) -> Facts:
        """The facts of the run's data. Can raise the errors of `known`."""
        return Facts.from_json(self.known["facts"])

    @property
    def weights(self) -> Provenance | None:
        """The origin of the run's initial weights; None for random weights.

        Raises:
            DataError: weights.json is damaged.
        """
        try:
            return Provenance(**json.loads(self.weights_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(self.weights_file, error) from None

    @property
    def versions(self) -> dict[str, str]:
        """Package versions at the start of the run. Can raise the errors of `known`."""
        versions: dict[str, str] = self._read_known()["versions"]
        return versions

    def kept(self) -> str:
        """Return the part of an error message that names the checkpoint that can be resumed."""
        last = self.checkpoint("last")
        if last.exists():
            return f"{last} still has the last good state"
        return "no checkpoint was written"

    def start(self, config: Config, known: KnownData, fresh: bool) -> bool:
        """Prepare the folder for a new run, or check that its run can be resumed.

        Paths of the data may differ. `train.epochs` may be raised if the schedule doesn't depend
        on the number of epochs.

        Args:
            config: the pipeline.
            known: facts and digests of the data, from `describe_splits`.
            fresh: True to rename the folder of an existing run and start a new one.

        Returns:
            True if there is a checkpoint to resume from.

        Raises:
            ConfigError: the folder contains a run with another configuration or other data, or
                other files.
            DataError: all checkpoints of the run in the folder are damaged.
        """
        # Never rename a folder that isn't a run, such as one with data.
        if fresh and self.writes and self.config_file.exists() and self.known_file.exists():
            if self.folder.resolve() == Path.cwd():
                raise ConfigError(
                    f"{self.folder}: --fresh renames the run's folder, which is the current one;"
                    " run the command in another folder"
                )
            self.folder.rename(_free_name(self.folder))
        last = self.checkpoint("last")
        if last.exists() or earlier_checkpoints(last):
            check_same_config(self.folder, self.config, config)
            check_same_data(self.folder, self.known, known)
            if self.writes:
                write_json(self.config_file, config.to_json())
            return True
        if damaged := damaged_checkpoints(last):
            names = ", ".join(file.name for file in damaged)
            raise DataError(
                f"{last.parent}: all checkpoints of this run are damaged ({names}). Copy a backup"
                f" to {last.name}, or start again with --fresh, which renames the run's folder"
            )
        # If a run has no checkpoint, nothing is lost by starting with another configuration.
        if self.folder.exists() and not self.config_file.exists() and any(self.folder.iterdir()):
            raise ConfigError(
                f"{self.folder}: the folder is not empty and has no run; choose another folder with"
                " --run"
            )
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.config_file, config.to_json())
            write_json(self.known_file, {**known, "versions": _versions()})
        return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Context that holds a lock, so that no other process trains this run.

        Raises:
            ConfigError: the run's folder is a file.
            UserError: another process holds the lock.
        """
        refuse_file(self.folder, "--run")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # The lock file is beside the folder, because --fresh may rename the folder. Links to the
        # folder share it. The system releases the lock when the process ends.
        folder = self.folder.resolve()
        with (folder.parent / f".{folder.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                hint = "wait until it ends, or choose another folder with --run"
                raise UserError(
                    f"{self.folder}: another process is training this run; {hint}"
                ) from None
            yield

    def log_weights(self, weights: Provenance | None) -> None:
        """Record the origin of the run's initial weights."""
        if self.writes and weights is not None:
            write_json(self.weights_file, weights._asdict())

    def log_metrics(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl; NaN and infinity become null."""
        if self.writes:
            with self.metrics_file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(jsonable(row)) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl. If a crash cut off the last line, leave it out."""
        if not self.metrics_file.exists():
            return []
        rows = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def forget_metrics_after(self, step: int) -> None:
        """Remove the rows of later steps, because these steps will be repeated."""
        if self.writes and self.metrics_file.exists():
            kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
            with atomic_write(self.metrics_file) as stream:
                stream.write("".join(kept).encode())

    def _read_known(self) -> dict[str, Any]:
        try:
            values = json.loads(self.known_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{self.known_file}: missing; restore it, or train again with --fresh"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(self.known_file, error) from None
        if not isinstance(values, dict):
            raise self._damaged(self.known_file, "it is not a JSON object")
        if not {"facts", "examples", "digests", "images", "versions"} <= values.keys():
            raise DataError(
                f"{self.known_file}: written by another version of cvpipe; train again with --fresh"
            )
        known: dict[str, Any] = values
        return known

    def _damaged(self, file: Path, why: object) -> DataError:
        return DataError(
            f"{file}: damaged or unreadable ({why}); restore it, or train again with --fresh"
        )


def _versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    return {"cvpipe": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}


def _free_name(folder: Path) -> Path:
    return next(
        name
        for n in range(1, 10**6)
        if not (name := folder.with_name(f"{folder.name}.old-{n}")).exists()
    )
