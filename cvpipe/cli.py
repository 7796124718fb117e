"""The `cvpipe` command: what can be asked for, how answers are printed, and which exit code says how it went.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75 interrupted and resumable. Every import that takes time
is made where it is used, so that --help and wrong pipelines are answered at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpipe import __version__
from cvpipe.errors import DataError, Interrupted, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        return options.command(options)
    except UserError as error:
        if options.debug:
            raise
        print(f"cvpipe {options.name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if options.name == "train":
            print("\ncvpipe train: stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
            return Interrupted.exit_code
        print(f"\ncvpipe {options.name}: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has enough.
        sys.stderr.close()
        return 0
    except OSError as error:
        if options.debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"cvpipe {options.name}: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        if options.debug:
            raise
        print(f"cvpipe {options.name}: {type(error).__name__}: {str(error)[:2000]}\n"
              f"This is no mistake we foresaw; run it again with --debug to see where it comes from", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cvpipe", description="From labelled images to a served answer on one static graph.")
    parser.add_argument("--version", action="version", version=f"cvpipe {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="name")

    train = _command(commands, "train", _train, "train a pipeline, or go on with its run where it stopped")
    train.add_argument("pipeline", metavar="PIPELINE.yaml", help="a pipeline file, such as pipelines/classification/digits.yaml")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                       help="override a key of the pipeline, such as --set train.epochs=3; can be repeated")
    train.add_argument("--run", metavar="DIR", type=Path, help="the run's folder (default: runs/NAME)")
    train.add_argument("--fresh", action="store_true", help="start anew; a run that exists is moved aside, not deleted")

    evaluate = _command(commands, "evaluate", _evaluate, "score a run, or an exported artefact fed with raw bytes")
    evaluate.add_argument("path", metavar="RUN|ARTEFACT", type=Path, help="such as runs/digits or saved_models/digits")
    evaluate.add_argument("--split", default="test", help="train, validation or test (default: test)")
    _data_option(evaluate)

    export = _command(commands, "export", _export, "turn a run into a SavedModel, checked against the evaluation")
    export.add_argument("run", metavar="RUN", type=Path, help="such as runs/digits")
    _data_option(export)
    export.add_argument("--to", metavar="DIR", type=Path, help="the model's folder, which gets a new version (default: saved_models/NAME)")

    predict = _command(commands, "predict", _predict, "answer images with an artefact, one JSON line each")
    # It prints nothing but JSON anyway; all commands that print answers take the option.
    predict.add_argument("artefact", metavar="ARTEFACT", type=Path, help="such as saved_models/digits")
    predict.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
    predict.add_argument("--draw", metavar="DIR", type=Path, help="also write a picture of each answer to DIR/<image>.prediction.png")

    serve = _command(commands, "serve", _serve, "answer TensorFlow Serving's REST requests on this machine", as_json=False)
    serve.add_argument("folder", metavar="DIR", type=Path, help="a folder of models, or one model, such as saved_models")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8501, help="port to listen on, 0 for any free one (default: %(default)s)")

    models = _command(commands, "models", _models, "list the networks with their sizes")
    models.add_argument("network", metavar="NAME", nargs="?", help="only this one")

    _command(commands, "schema", _schema, "print the JSON schema of pipeline files, for editors", as_json=False)
    return parser


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="data.KEY=VALUE", dest="overrides",
                        help="where the data lies now, such as --set data.source.path=/data/photos; can be repeated")


def _command(commands: Any, name: str, function: Any, text: str, as_json: bool = True) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(command=function)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    if as_json:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else there")
    return parser


def _train(options: argparse.Namespace) -> int:
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    config = config_file.load(options.pipeline, options.overrides)
    prepare_process(config)
    from cvpipe.training.train import train

    run = options.run or Path("runs") / config.name
    result = train(config, run, options.fresh)
    _print(options, result, [*_scores(result), f"run     {run}", f"report  {result.get('report', 'is written by the chief worker')}"])
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    run = Run(options.path)
    if run.config_file.exists():
        prepare_process(run.config)
        from cvpipe.training.train import evaluate_run

        report = run.report(options.split)
        result = {**evaluate_run(run, options.split, options.overrides), "run": str(run.folder), "report": str(report)}
        lines = [f"report  {report}"]
    else:
        from cvpipe.export.about import artefact_config, find_artefact

        try:
            folder = find_artefact(options.path)
        except DataError:
            raise DataError(f"{options.path}: neither a run nor an exported model; train one with: cvpipe train PIPELINE.yaml") from None
        prepare_process(artefact_config(folder))
        from cvpipe.export.artefact import evaluate_artefact

        result = {**evaluate_artefact(folder, options.split, options.overrides), "artefact": str(folder)}
        lines = [f"artefact  {folder}"]
    _print(options, result, [*_scores(result), *lines])
    return 0


def _export(options: argparse.Namespace) -> int:
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    run = Run(options.run)
    prepare_process(run.config)
    from cvpipe.export.export import export

    result = export(run, options.to, options.overrides)
    checked = (f"checked: {result['images']} images answered from bytes by both loaders in a fresh process, "
               f"largest difference {result['max_difference']:.1e}")
    _print(options, result, [f"artefact  {result['artefact']}", checked])
    return 0


def _predict(options: argparse.Namespace) -> int:
    from cvpipe.export.about import artefact_config, find_artefact
    from cvpipe.runtime import prepare_process

    folder = find_artefact(options.artefact)
    prepare_process(artefact_config(folder))
    from cvpipe.serving.predict import predict

    failed = 0
    for answer in predict(folder, options.images, options.draw):
        failed += "error" in answer
        print(json.dumps(answer), flush=True)
    return 1 if failed else 0


def _serve(options: argparse.Namespace) -> int:
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.serving.server import make_server

    with make_server(options.folder, options.host, options.port) as server:
        address = f"http://{options.host}:{server.server_port}"
        print(f"serving {options.folder} at {address} (Ctrl-C stops)", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return 0


def _models(options: argparse.Namespace) -> int:
    from cvpipe.models.catalogue import NETWORKS
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.models.cost import describe

    rows = [describe(name) for name in ([options.network] if options.network else NETWORKS)]
    lines = [f"{'name':<14}{'parameters':>12}{'trainable':>12}{'M mult-adds':>13}  {'input':<12}paper"]
    for row in rows:
        size = "×".join(map(str, row["input_shape"]))
        lines.append(f"{row['name']:<14}{row['parameters']:>12,}{row['trainable_parameters']:>12,}{row['macs'] / 1e6:>13,.1f}  "
                     f"{size:<12}{row['paper']}")
    _print(options, rows, lines)
    return 0


def _schema(options: argparse.Namespace) -> int:
    from cvpipe.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False))
    return 0


def _print(options: argparse.Namespace, result: Any, lines: list[str]) -> None:
    """The result as one JSON object, or as lines for people."""
    from cvpipe.json_files import jsonable

    print(json.dumps(jsonable(result)) if options.json else "\n".join(lines))


def _scores(result: dict[str, Any]) -> list[str]:
    width = max(map(len, result))
    shown = {name: value for name, value in result.items() if isinstance(value, (int, float)) and name != "steps"}
    return [f"{name:<{width}}  {value:.4f}" if isinstance(value, float) else f"{name:<{width}}  {value}" for name, value in shown.items()]
