"""densenet-model: look at networks, and use those that densenet-run has trained."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from densenet_cli.config.trust import Trust
from densenet_cli.options import UserError
from densenet_cli.plain_text import Formatter, Parser, printable
from densenet_cli.process import ranks
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}
DESCRIPTION = "Look at networks, and use those that densenet-run has trained."
EXAMPLES = """\
examples:
  densenet-model summary model=densenet_bc_100 model.growth_rate=24 model.compression=0.7
  densenet-model summary model=densenet_121 --image-size 224 --classes 1000
  densenet-model predict outputs/RUN photo.jpg holiday/
  densenet-model predict outputs/RUN holiday/ --format csv --output holiday.csv --ten-crop
  densenet-model evaluate outputs/RUN other-photos/
  densenet-model reuse outputs/RUN                   what a DenseNet's layers read: the paper's figure 5
  densenet-model lesions outputs/RUN outputs/OTHER   errors without some layers, or with layers swapped
  densenet-model gradients outputs/RUN outputs/OTHER by layer, untrained and trained
  densenet-model mistakes outputs/RUN outputs/OTHER  calibration and confusion
  densenet-model saliency outputs/RUN outputs/OTHER --pictures photos/
                                                     what each looks at: Grad-CAM and occlusion
  densenet-model depth 'model=plain,resnet model.depth=20,56,110' 'model=densenet_bc model.depth=22,58'
                                                     gradients before training, against depth
  densenet-model export outputs/RUN --format onnx --output flowers.onnx --check holiday/

RUN is the folder of a run, which stands for the checkpoint that its results are of, or one of its files
checkpoints/last.ckpt and checkpoints/best.ckpt. Pictures are cut and normalised as the run's own were.
"""


def main() -> None:
    """densenet-model summary|predict|evaluate|export|reuse|lesions|gradients|depth|maps|mistakes|..."""
    with EndWithReader("densenet-model") as ending:
        _obey(ending)


def _obey(ending: EndWithReader) -> None:
    """Do what the words say."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows a question mark
    if logging.lastResort:  # what shows warnings where nothing is set up
        logging.lastResort.setFormatter(Formatter("densenet-model: %(message)s"))
    ranks.forget((*ranks.RANKS, *ranks.NODES))
    ranks.spin_briefly()
    parser = _parser()
    words = parser.parse_args()
    if not hasattr(words, "command"):
        parser.print_help()
        return
    ending.at_once = getattr(words, "output", None) is None  # else it leaves files
    try:
        load_lightning()  # all commands need it
        status = words.command(words) or 0
    except UserError as error:
        _complain(error, str(error))
    except (HydraException, OmegaConfBaseException) as error:
        from densenet_cli.config.errors import explain

        _complain(error, explain(error, words.words))
    except OSError as error:
        file = error.filename or getattr(words, "output", None) or "output"
        _complain(error, f"{file}: cannot be read or written: {error.strerror or error}")
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _complain(error: Exception, message: str) -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    sys.exit("densenet-model: " + printable(message, keep="\n"))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "densenet-model", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=_formatter
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    summary = _command(commands, "summary", _summary, "the layers of a network, and what they cost")
    summary.add_argument(
        "words", nargs="*", metavar="key=value", help="as typed to densenet-run: model=..."
    )
    summary.add_argument("--image-size", type=_count, default=32, metavar="PIXELS", help="default: 32")
    summary.add_argument("--classes", type=_count, default=10, metavar="N", help="default: 10")
    summary.add_argument(
        "--batch-size", type=_count, default=8, metavar="N", help="for times; default: 8"
    )
    summary.add_argument("--depth", type=_count, default=3, metavar="N", help="of modules; default: 3")
    predict = _command(commands, "predict", _predict, "what a trained network takes pictures for")
    _add_run(predict)
    predict.add_argument("pictures", nargs="+", type=Path, help="files, and folders to search")
    predict.add_argument("--format", choices=("table", "csv", "json"), default="table")
    predict.add_argument("--output", type=Path, metavar="FILE", help="default: the terminal")
    predict.add_argument("--top", type=_count, default=3, metavar="N", help="classes named; default: 3")
    predict.add_argument("--ten-crop", action="store_true", help="mean over ten parts of each picture")
    _add_limit(predict)
    evaluate = _command(commands, "evaluate", _evaluate, "its errors on other pictures of its classes")
    _add_run(evaluate)
    evaluate.add_argument("folder", type=Path, help="with a folder of pictures for each class")
    _add_limit(evaluate)
    export = _command(commands, "export", _export, "the network as a file for other programs")
    export.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a checkpoint in it")
    _add_trust(export)
    export.add_argument("--format", choices=tuple(ENDINGS), required=True)
    export.add_argument(
        "--output", type=Path, metavar="FILE", help="default: RUN/network with the format's ending"
    )
    export.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="PICTURES",
        help="files and folders; the file must answer as the network does; default: random images",
    )  # fmt: skip
    _add_limit(export)
    _add_analyses(commands)
    _add_depth(commands)
    return parser


def _add_analyses(commands: argparse._SubParsersAction) -> None:
    reuse = _command(commands, "reuse", _reuse, "which maps the layers of a DenseNet read")
    reuse.add_argument("--through-norm", action="store_true", help="weights times batch norm's scale")
    lesions = _command(commands, "lesions", _lesions, "errors with units deleted and swapped")
    lesions.add_argument("--replace", choices=("zero", "mean"), default="zero", help="default: zero")
    lesions.add_argument("--draws", type=_count, default=5, metavar="N", help="at random; default: 5")
    lesions.add_argument("--most", type=_count, default=10, metavar="N", help="units; default: 10")
    gradients = _command(
        commands, "gradients", _gradients, "gradient norms by layer, untrained and trained"
    )
    maps = _command(commands, "maps", _maps, "dead and redundant feature maps by layer")
    mistakes = _command(commands, "mistakes", _mistakes, "calibration, and what is taken for what")
    saliency = _command(commands, "saliency", _saliency, "what networks look at in pictures")
    saliency.add_argument(
        "--pictures", nargs="+", type=Path, default=[], metavar="PICTURES",
        help="files and folders; default: test images",
    )  # fmt: skip
    _add_limit(saliency)
    saliency.add_argument(
        "--class", dest="wanted", metavar="NAME", help="to look for; default: what it is taken for"
    )
    saliency.add_argument(
        "--layer", nargs="+", default=[], metavar="NAME",
        help="module whose maps Grad-CAM takes, for all runs or each; default: the last maps",
    )  # fmt: skip
    saliency.add_argument(
        "--patch", type=_count, metavar="PIXELS",
        help="side of the square that hides; default: a quarter of the image's",
    )  # fmt: skip
    for parser in (reuse, lesions, gradients, maps, mistakes, saliency):
        parser.add_argument(
            "runs", nargs="+", type=Path, metavar="RUN", help="runs to set side by side"
        )
        _add_figures(parser)
        _add_trust(parser)
    numbers = {lesions: 1000, gradients: 256, maps: 256, mistakes: 10_000, saliency: 6}
    for parser, number in numbers.items():
        parser.add_argument(
            "--images",
            type=_count,
            default=number,
            metavar="N",
            help=f"of the test set; default: {number}",
        )
        parser.add_argument("--data-root", metavar="FOLDER", help="if the data have moved since")


def _add_depth(commands: argparse._SubParsersAction) -> None:
    depth = _command(commands, "depth", _depth, "gradient norms before training, against depth")
    depth.add_argument(
        "words", nargs="*", metavar="LINE",
        help="networks as in a sweep, 'model=plain model.depth=20,56'; words without model=, such as "
        "data=cifar10, are for all lines; default: plain nets, ResNets and DenseNet-BCs, data=digits",
    )  # fmt: skip
    depth.add_argument("--images", type=_count, default=64, metavar="N", help="default: 64")
    depth.add_argument("--seeds", type=_count, default=3, metavar="N", help="default: 3")
    _add_figures(depth)


def _add_figures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("figures"), metavar="FOLDER")
    parser.add_argument("--format", default="png", metavar="png,svg,pdf", help="default: png")


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)


def _command(
    commands: argparse._SubParsersAction, name: str, call: Callable, does: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=does, description=does, formatter_class=_formatter)
    parser.set_defaults(command=call, words=[])
    return parser


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", action="append", default=[], metavar="NAME",
        help="a class or package of yours that the run's folder names, as my_package.MyNet",
    )  # fmt: skip


def _trust(words: argparse.Namespace) -> Trust:
    return Trust(tuple(words.trust), how="--trust ")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a checkpoint in it")
    _add_trust(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument(
        "--precision",
        choices=("32-true", "bf16-mixed"),
        help="default: as it was trained, 16-mixed in 32-true",
    )
    parser.add_argument("--batch-size", type=_count, metavar="N", help="default: as it was trained")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-pixels",
        type=_count,
        metavar="N",
        help="larger pictures are left out; default: 178956970",
    )


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def _summary(words: argparse.Namespace) -> int:
    from densenet_cli.inference import layer_table

    layer_table.show(words.words, words.image_size, words.classes, words.batch_size, words.depth)
    return 0


def _predict(words: argparse.Namespace) -> int:
    from densenet_cli.inference import pictures, predictions, trained

    pictures.limit(words.max_pixels)
    paths = pictures.find(words.pictures)
    network = trained.load(words.run, words.device, words.precision, _trust(words))
    answers = predictions.predict(network, paths, words.top, words.batch_size, words.ten_crop)
    unreadable: list[pictures.Unreadable] = []
    with _opened(words.output) as file:
        predictions.write(predictions.readable(answers, unreadable), words.format, file)
    return _name(unreadable, len(paths))


def _evaluate(words: argparse.Namespace) -> int:
    from densenet_cli.inference import evaluation, pictures, trained

    pictures.limit(words.max_pixels)
    network = trained.load(words.run, words.device, words.precision, _trust(words))
    answers = evaluation.evaluate(network, words.folder, words.batch_size)
    evaluation.show(answers)
    return _name(answers.unreadable, len(answers.paths) + len(answers.unreadable))


def _export(words: argparse.Namespace) -> int:
    from densenet_cli.inference import export, pictures, trained

    pictures.limit(words.max_pixels)
    network = trained.load(words.run, "cpu", "32-true", _trust(words))
    folder = network.checkpoint.parent.parent
    path = words.output or folder / f"network{ENDINGS[words.format]}"
    images, unreadable = pictures.some(words.check, network.image_size[0], network.kept)
    share = export.export(network, words.format, path, images)
    what = "pictures" if words.check else "random images"
    print(
        f"{printable(path)}: answers as the network does, but for {share:.1e} of the largest logit, "
        f"on {len(images)} {what}"
    )
    return _name(unreadable, len(images) + len(unreadable))


def _look(words: argparse.Namespace, precision: str | None = "32-true") -> Any:
    from densenet_cli.analysis.runs import Look, formats

    images, root = getattr(words, "images", 0), getattr(words, "data_root", None)
    chosen = formats(words.format)
    return Look(words.runs, images, root, words.output, chosen, precision, _trust(words))


def _reuse(words: argparse.Namespace) -> None:
    from densenet_cli.analysis import of_runs

    of_runs.reuse(_look(words), words.through_norm)


def _lesions(words: argparse.Namespace) -> None:
    from densenet_cli.analysis import of_runs

    of_runs.lesion(_look(words), words.replace, words.draws, words.most)


def _gradients(words: argparse.Namespace) -> None:
    from densenet_cli.analysis import of_runs

    of_runs.gradients(_look(words))


def _maps(words: argparse.Namespace) -> None:
    from densenet_cli.analysis import of_runs

    of_runs.maps(_look(words))


def _mistakes(words: argparse.Namespace) -> None:
    from densenet_cli.analysis.mistakes.mistakes import mistakes

    mistakes(_look(words, precision=None))  # so that the error is that of the run


def _saliency(words: argparse.Namespace) -> int:
    from densenet_cli.analysis.saliency.saliency import saliency
    from densenet_cli.inference import pictures

    pictures.limit(words.max_pixels)
    paths = pictures.find(words.pictures) if words.pictures else []
    unreadable = saliency(_look(words), paths, words.wanted, words.layer, words.patch)
    return _name(unreadable, len(paths))


def _depth(words: argparse.Namespace) -> None:
    from densenet_cli.analysis import of_untrained
    from densenet_cli.analysis.runs import formats

    chosen = formats(words.format)
    of_untrained.depth(words.words, words.images, words.seeds, words.output, chosen)


def _name(unreadable: list, pictures: int) -> int:
    """Name the files that could not be read; the exit status."""
    for one in unreadable:
        text = printable(f"{one.path}: cannot be read: {one.reason}")
        print(f"densenet-model: {text}", file=sys.stderr)
    if unreadable:
        print(f"densenet-model: {len(unreadable)} of {pictures} pictures are left out", file=sys.stderr)
    return 1 if unreadable else 0


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
    else:
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            yield file


if __name__ == "__main__":
    begin("densenet-model")
    main()
