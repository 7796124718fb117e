"""`cvpipe train` and its checks, `cvpipe train --sanity`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.commands.command import (
    add_command,
    add_examples,
    add_pipeline,
    class_lines,
    make_output_folder,
    print_result,
    score_lines,
)
from cvpipe.commands.init import draft_to, is_data, pipeline_file_of
from cvpipe.console import print_message
from cvpipe.errors import ConfigError

if TYPE_CHECKING:
    from cvpipe.config import Config

# With fewer steps, the range test can't cover its six powers of ten.
MIN_SANITY_STEPS = 20


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "train", train, "train a pipeline, or resume its run")
    add_examples(
        parser,
        "cvpipe train pipelines/classification/digits.yaml",
        "cvpipe train photos.zip",
        "cvpipe train photos.yaml --set train.epochs=3 --run runs/short",
        "cvpipe train photos.yaml --sanity",
    )
    add_pipeline(
        parser, "; for a folder or zip archive of labeled images, a pipeline file is drafted first"
    )
    parser.add_argument(
        "--run", metavar="DIR", type=Path, help="the run's folder (default: runs/NAME)"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start a new run; an existing run is moved aside, not deleted",
    )
    parser.add_argument(
        "--ray",
        metavar="N",
        type=int,
        help=(
            "train on N workers of a Ray cluster, which all share the run's folder; needs the extra"
            " [ray]"
        ),
    )
    parser.add_argument(
        "--sanity",
        action="store_true",
        help=("only check that the pipeline can be trained; the report is written to RUN-sanity"),
    )
    parser.add_argument(
        "--sanity-steps",
        metavar="N",
        type=int,
        default=300,
        help="largest number of steps in each of the two checks that train (default: %(default)s)",
    )


def train(options: argparse.Namespace) -> int:
    """Train, and print the scores on the test split."""
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    pipeline = _drafted(options.pipeline) if is_data(options.pipeline) else options.pipeline
    config = config_file.load(pipeline, options.overrides)
    prepare_process(config)
    run = options.run or Path("runs") / config.name
    if options.sanity:
        return _check_sanity(options, config, run)
    if options.ray is not None:
        return _train_on_ray(options, pipeline, run)
    from cvpipe.training.train import train as train_pipeline

    result = train_pipeline(config, run, options.fresh)
    report = result.get("report", "is written by the chief worker")
    where = [f"run     {run}", f"report  {report}"]
    print_result(options, result, [*score_lines(result), *class_lines(result), *where])
    return 0


def _train_on_ray(options: argparse.Namespace, pipeline: str | Path, run: Path) -> int:
    """Run this command on the workers of a Ray cluster."""
    if options.ray < 1:
        raise ConfigError(f"--ray: {options.ray} is not a number of workers; give at least 1")
    if options.fresh:
        raise ConfigError(
            "--fresh: a restarted worker would begin anew; with --ray, choose another folder by"
            " --run"
        )
    from cvpipe.training.ray_train import train_on_ray

    overrides = [word for pair in options.overrides for word in ("--set", pair)]
    train_on_ray(["train", str(pipeline), "--run", str(run), *overrides], run, options.ray)
    report = run / "report.md"
    where = {"run": str(run), "report": str(report)}
    print_result(options, where, [f"{name:<7} {path}" for name, path in where.items()])
    return 0


def _drafted(data: str) -> Path:
    """Return the pipeline file of a folder or zip archive: an existing one, or a new draft.

    Raises:
        ConfigError: the existing file is for other data.
    """
    from cvpipe import config_file

    file = pipeline_file_of(data)
    if file.exists():
        source = config_file.load(file, draft=True).data.source
        if getattr(source, "path", None) != data:
            raise ConfigError(
                f"{file}: a pipeline of {source.place}, not of {data}; train this file by its name,"
                f" or draft another: cvpipe init {data} --to FILE"
            )
        print_message(f"using the existing {file}")
        return file
    _, _, lines = draft_to(file, data)
    print_message("\n".join([*lines, f"wrote     {file}"]))
    return file


def _check_sanity(options: argparse.Namespace, config: Config, run: Path) -> int:
    """Run the checks, and print one line for each.

    Suspicious results don't change the exit code; programs can read "ok" in the JSON result.
    """
    if options.fresh:
        raise ConfigError(
            "--fresh: --sanity trains nothing and changes no run; leave one of the two out"
        )
    if options.sanity_steps < MIN_SANITY_STEPS:
        raise ConfigError(
            f"--sanity-steps: {options.sanity_steps} are too few to see a trend; give at least"
            f" {MIN_SANITY_STEPS}"
        )
    from cvpipe.training.sanity import check_sanity
    from cvpipe.training.sanity.report import write_sanity_report

    folder = run.with_name(f"{run.name}-sanity")
    findings = []
    for finding in check_sanity(config, options.sanity_steps):
        findings.append(finding)
        if not options.json:
            print(finding.line(), flush=True)
        # Create the folder only now, so that an error in the pipeline leaves no empty folder.
        make_output_folder(folder, "report.md", "--run")
        write_sanity_report(findings, config, folder)
    report = folder / "report.md"
    checks = [
        {
            "name": finding.name,
            "ok": finding.ok,
            "says": finding.says,
            "advice": finding.advice,
            **finding.measured,
        }
        for finding in findings
    ]
    print_result(
        options,
        {"ok": all(finding.ok for finding in findings), "checks": checks, "report": str(report)},
        [f"report      {report}"],
    )
    return 0
