"""densenet-model: inspects networks, and uses those that densenet-run has trained."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from densenet_cli.commands.ending import errors_as_messages
from densenet_cli.commands.model_parser import ENDINGS, parser
from densenet_cli.config.trust import Trust
from densenet_cli.files.json_document import json_document
from densenet_cli.plain_text import AS_SIMILAR, Formatter, printable
from densenet_cli.process import ranks
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader

if TYPE_CHECKING:
    from densenet_cli.analysis.runs import Analysis
    from densenet_cli.inference.image_batches import Unreadable


def main() -> None:
    """densenet-model list|summary|predict|evaluate|export|reuse|lesions|gradients|depth|maps|..."""
    with EndWithReader("densenet-model") as ending:
        _run_command(ending)


def _run_command(ending: EndWithReader) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors=AS_SIMILAR
            )  # a terminal that lacks a letter shows a question mark
    if logging.lastResort:  # shows warnings where no handler is configured
        logging.lastResort.setFormatter(Formatter("densenet-model: %(message)s"))
    ranks.forget((*ranks.RANKS, *ranks.NODES))
    ranks.spin_briefly()
    command_line = parser()
    args = command_line.parse_args()
    if args.command is None:
        command_line.print_help()
        return
    ending.at_once = getattr(args, "output", None) is None  # else the command must finish its files
    with errors_as_messages("densenet-model", lambda error: _explain(error, args)):
        if args.command != "list":
            load_lightning()  # before anything that imports it
        sys.exit(COMMANDS[args.command](args) or 0)


def _explain(error: Exception, args: argparse.Namespace) -> str | None:
    from densenet_cli.config.errors import explain

    overrides = getattr(args, "overrides", [])
    if paths := [one for one in overrides if "=" not in one and Path(one).exists()]:
        of_run = f"; those of a run are in {paths[0]}/config.yaml" if Path(paths[0]).is_dir() else ""
        return f"{paths[0]}: {args.command} takes options of a network, as model=densenet_121{of_run}"
    return explain(error, overrides)


def _list(args: argparse.Namespace) -> None:
    from densenet_cli.inference import network_list

    network_list.show(args.format, args.config_dir)


def _summary(args: argparse.Namespace) -> None:
    from densenet_cli.inference import summary

    images = summary.Images(args.batch_size, args.channels, args.image_size)
    is_json = args.format == "json"
    summary.show(args.overrides, images, args.classes, args.depth, args.config_dir, is_json)


def _predict(args: argparse.Namespace) -> int:
    from densenet_cli.inference import image_batches, predictions, trained_network

    image_batches.limit(args.max_pixels)
    paths = image_batches.find(args.images)
    network = trained_network.load(args.run, args.device, args.precision, _trust(args))
    found = predictions.predict(network, paths, args.top, args.batch_size, args.ten_crop)
    unreadable: list[Unreadable] = []
    with _opened(args.output) as file:
        predictions.write(predictions.readable(found, unreadable), args.format, file)
    return _report_unreadable(unreadable, len(paths))


def _evaluate(args: argparse.Namespace) -> int:
    from densenet_cli.inference import evaluation, image_batches, trained_network

    image_batches.limit(args.max_pixels)
    network = trained_network.load(args.run, args.device, args.precision, _trust(args))
    found = evaluation.evaluate(network, args.folder, args.batch_size, args.ten_crop, args.data_root)
    if args.format == "json":
        sys.stdout.write(json_document(evaluation.document(found)))
    else:
        evaluation.show(found)
    return _report_unreadable(found.unreadable, len(found.paths) + len(found.unreadable))


def _pack(args: argparse.Namespace) -> None:
    from densenet_cli.inference import packing

    photos, overrides = args.photos, args.overrides
    place = photos.resolve()
    output = args.output or f"{place.stem if place.is_file() else place.name}.pack"
    how = packing.Packing(args.size, args.quality)
    made = packing.pack(photos, overrides, how, output, args.max_pixels, args.skip_broken)
    if args.format == "json":
        sys.stdout.write(json_document(packing.document(made)))
    else:
        packing.show(made, photos, overrides)


def _export(args: argparse.Namespace) -> int:
    from densenet_cli.inference import export, image_batches, trained_network

    image_batches.limit(args.max_pixels)
    network = trained_network.load(args.run, "cpu", "32-true", _trust(args))
    folder = network.checkpoint.parent.parent
    form, is_json = args.format
    path = args.output or folder / f"network{ENDINGS[form]}"
    images, unreadable = image_batches.sample(args.check, network)
    difference = export.export(network, form, path, images)
    if is_json:
        checked = {"checked_images": len(images), "are_random": not args.check}
        document = {"file": str(path), "format": form, **checked, "largest_difference": difference}
        sys.stdout.write(json_document(document))
    else:
        kind = "images" if args.check else "random images"
        print(
            f"{printable(path)}: checked on {len(images)} {kind}: its logits differ from the "
            f"network's by at most {difference:.1e} of the largest logit"
        )
    return _report_unreadable(unreadable, len(images) + len(unreadable))


def _reuse(args: argparse.Namespace) -> None:
    from densenet_cli.analysis.reuse.command import reuse

    reuse(_analysis(args), args.through_norm)


def _lesions(args: argparse.Namespace) -> None:
    from densenet_cli.analysis.lesions.command import lesions

    lesions(_analysis(args), args.replace, args.draws, args.most)


def _gradients(args: argparse.Namespace) -> None:
    from densenet_cli.analysis.gradients.command import gradients

    gradients(_analysis(args))


def _maps(args: argparse.Namespace) -> None:
    from densenet_cli.analysis.maps.command import maps

    maps(_analysis(args))


def _mistakes(args: argparse.Namespace) -> None:
    from densenet_cli.analysis.mistakes.command import mistakes

    mistakes(_analysis(args, precision=None))  # so that the error is that of the run


def _saliency(args: argparse.Namespace) -> int:
    from densenet_cli.analysis.saliency.command import saliency
    from densenet_cli.inference import image_batches

    image_batches.limit(args.max_pixels)
    paths = image_batches.find(args.pictures) if args.pictures else []
    unreadable = saliency(_analysis(args), paths, args.class_name, args.layer, args.patch)
    return _report_unreadable(unreadable, len(paths))


def _depth(args: argparse.Namespace) -> None:
    from densenet_cli.analysis.depth.command import depth
    from densenet_cli.analysis.output import Output

    depth(args.overrides, args.images, args.seeds, Output.typed(args.output, args.format))


def _analysis(args: argparse.Namespace, precision: str | None = "32-true") -> Analysis:
    from densenet_cli.analysis.output import Output
    from densenet_cli.analysis.runs import Analysis

    output = Output.typed(args.output, args.format)
    return Analysis(args.runs, args.images, args.data_root, output, precision, _trust(args))


def _trust(args: argparse.Namespace) -> Trust:
    return Trust(tuple(args.trust), how="--trust ")


def _report_unreadable(unreadable: list[Unreadable], images: int) -> int:
    """Print the files that cannot be read; return the exit status."""
    for one in unreadable:
        text = printable(f"{one.path}: cannot be read: {one.reason}")
        print(f"densenet-model: {text}", file=sys.stderr)
    if unreadable:
        print(f"densenet-model: {len(unreadable)} of {images} images are left out", file=sys.stderr)
    return 1 if unreadable else 0


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
    else:
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            yield file


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "list": _list,
    "summary": _summary,
    "predict": _predict,
    "evaluate": _evaluate,
    "pack": _pack,
    "export": _export,
    "reuse": _reuse,
    "lesions": _lesions,
    "gradients": _gradients,
    "depth": _depth,
    "maps": _maps,
    "mistakes": _mistakes,
    "saliency": _saliency,
}

if __name__ == "__main__":
    begin("densenet-model")
    main()
