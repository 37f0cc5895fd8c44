"""The command line of densenet-model: a parser for each of its commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from densenet_cli.commands.ending import EXIT_STATUS
from densenet_cli.commands.json_shapes import described
from densenet_cli.plain_text import Parser

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}
DESCRIPTION = "Inspect networks, and use the networks that densenet-run has trained."
EXAMPLES = """\
examples:
  densenet-model list
  densenet-model summary model=densenet_bc_100 model.growth_rate=24 model.compression=0.7
  densenet-model summary model=densenet_121 --image-size 224 --classes 1000
  densenet-model predict outputs/RUN photo.jpg holiday/
  densenet-model predict outputs/RUN holiday/ --format csv --output holiday.csv --ten-crop
  densenet-model evaluate outputs/RUN other-photos/
  densenet-model evaluate outputs/RUN hospital/labels.csv
  densenet-model pack photos/ --size 256 --output photos.pack
  densenet-model export outputs/RUN --format onnx --output flowers.onnx --check holiday/
  densenet-model reuse outputs/RUN
  densenet-model lesions outputs/RUN outputs/OTHER
  densenet-model saliency outputs/RUN outputs/OTHER --pictures a.jpg b.jpg
  densenet-model depth 'model=plain,resnet model.depth=20,56,110' 'model=densenet_bc model.depth=22,58'

RUN is the folder of a run, or one of its files checkpoints/last.ckpt and checkpoints/best.ckpt. The
folder stands for the checkpoint whose results the run reports. Images are cropped and normalised as in
the run. To see the options of a command type densenet-model COMMAND --help.
"""
SUMMARIES = {
    "list": "the networks that model= knows, with their size and cost",
    "summary": "the layers of a network: shapes, sizes, costs",
    "predict": "the classes that a trained network predicts for images",
    "evaluate": "the error of a trained network and of each class, on its test images or others",
    "pack": "photos in a few large files, which are read many times as fast",
    "export": "a trained network as a file: ONNX, torch.export or safetensors",
    "reuse": "which feature maps the layers of a DenseNet use",
    "lesions": "test errors after parts of a network are deleted or swapped",
    "gradients": "gradient norms by layer, before and after training",
    "depth": "gradient norms before training, against depth",
    "maps": "dead and redundant feature maps by layer",
    "mistakes": "calibration, confusion of classes, the most confident mistakes",
    "saliency": "which parts of an image decide: Grad-CAM and occlusion",
}
STUDIES = {  # of trained runs, and the number of test images that each uses by default
    "reuse": 1000,
    "lesions": 1000,
    "gradients": 256,
    "maps": 256,
    "mistakes": 10_000,
    "saliency": 6,
}


def parser() -> argparse.ArgumentParser:
    """The parser of densenet-model; the name of the command typed is in `command`."""
    whole = Parser(
        "densenet-model",
        usage="densenet-model [-h] COMMAND ...",
        description=DESCRIPTION,
        epilog=f"{EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=_formatter,
    )
    longest = max(map(len, SUMMARIES))  # argparse measures names without their indent
    subparsers = whole.add_subparsers(
        title="commands", metavar="COMMAND".ljust(longest + 2), dest="command", prog="densenet-model"
    )
    commands = {
        name: subparsers.add_parser(
            name,
            help=summary,
            description=f"{'Writes' if name == 'export' else 'Shows'} {summary}.",
            formatter_class=_formatter,
        )
        for name, summary in SUMMARIES.items()
    }
    for name, command in commands.items():
        command.epilog = f"{described(f'model {name}')}\n{EXIT_STATUS}"
    for name, number in STUDIES.items():
        _add_runs(commands[name])
        if name != "reuse":
            _add_number(commands[name], "--images", number, "number of test images")
    _add_list(commands["list"])
    _add_summary(commands["summary"])
    _add_predict(commands["predict"])
    _add_evaluate(commands["evaluate"])
    _add_pack(commands["pack"])
    _add_export(commands["export"])
    _add_depth(commands["depth"])
    _add_saliency(commands["saliency"])
    reuse = commands["reuse"]
    reuse.add_argument(
        "--through-norm", action="store_true", help="multiply weights by the scale of the batch norm"
    )
    reuse.add_argument(
        "--images", type=_count_or_0, default=STUDIES["reuse"], metavar="N",
        help="number of test images on which connections are cut; 0: look at the weights only; "
        f"default: {STUDIES['reuse']}",
    )  # fmt: skip
    lesions = commands["lesions"]
    lesions.add_argument(
        "--replace", choices=("zero", "mean", "both"), default="zero",
        help="what replaces the maps of a deleted part; both: one after the other; default: zero",
    )  # fmt: skip
    _add_number(lesions, "--draws", 5, "random draws of each number of parts")
    _add_number(lesions, "--most", 10, "parts deleted, and pairs swapped, at most")
    return whole


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)


def _add_list(command: argparse.ArgumentParser) -> None:
    _add_format(command, "table", "csv", "json")
    _add_config_dir(command)


def _add_summary(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="model=... and its options, as typed to densenet-run",
    )  # fmt: skip
    _add_number(command, "--image-size", 32, "height and width of the images", metavar="PIXELS")
    _add_number(command, "--channels", 3, "channels of the images; 1: grey levels")
    _add_number(command, "--classes", 10, "number of classes")
    _add_number(command, "--batch-size", 8, "images in the forward pass that is timed")
    _add_number(command, "--depth", 3, "levels of nested modules to show")
    _add_format(command, "table", "json")
    _add_config_dir(command)


def _add_predict(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="files, folders, packs")
    _add_inference(command)
    _add_format(command, "table", "csv", "json")
    command.add_argument("--output", type=Path, metavar="FILE", help="default: the terminal")
    _add_number(command, "--top", 3, "classes shown for each image")
    command.add_argument(
        "--ten-crop", action="store_true", help="average the logits of ten crops of each image"
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER",
        help="with a folder of images for each class, or a pack of it; or a table of images, as "
        "data.table: .csv, .tsv, .parquet; default: the test images of the run",
    )  # fmt: skip
    command.add_argument(
        "--data-root", metavar="FOLDER",
        help="folder of the run's data, if they have moved since; or of the images of a table",
    )  # fmt: skip
    _add_inference(command)
    _add_format(command, "table", "json")
    command.add_argument(
        "--ten-crop", action=argparse.BooleanOptionalAction,
        help="average the logits of ten crops of each image, which takes ten times as long; default: "
        "as in the test of the run",
    )  # fmt: skip


def _add_pack(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Packs photos as data.pack=true of densenet-run does: once, on all cores.\n"
        "A kill at any moment loses little: the same command continues."
    )
    command.add_argument(
        "photos", type=Path, metavar="PHOTOS",
        help="a folder with a folder of images for each class; or a table of images, as data.table",
    )  # fmt: skip
    command.add_argument(
        "overrides", nargs="*", metavar="data.KEY=VALUE",
        help="options of the images as typed to densenet-run, such as data.images=xrays",
    )  # fmt: skip
    command.add_argument(
        "--size", type=_size, default=256, metavar="PIXELS",
        help="shorter side to which larger images are resized, or whole: as they are; default: 256",
    )  # fmt: skip
    command.add_argument(
        "--quality", type=_quality, default=90, metavar="QUALITY",
        help="of the JPEG files of resized images, 1 to 100; or raw: all images as pixels, which are "
        "the fastest to read and take most space; default: 90",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, metavar="PACK",
        help="NAME.pack, or a folder in which the name says what was packed; default: PHOTOS.pack",
    )  # fmt: skip
    command.add_argument(
        "--skip-broken", action="store_true",
        help="leave out images that cannot be read or are too large, with a warning",
    )  # fmt: skip
    _add_max_pixels(command, "refuse")
    _add_format(command, "table", "json")


def _add_export(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument(
        "--format", type=_export_format, required=True, metavar="FORMAT[,json]",
        help=f"of the file: {', '.join(ENDINGS)}; with json, what is printed is JSON",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="default: RUN/network with the format's ending"
    )
    command.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="IMAGES",
        help="files and folders of images for which file and network must give the same logits; "
        "default: random images",
    )  # fmt: skip
    _add_max_pixels(command)


def _add_depth(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "overrides", nargs="*", metavar="LINE",
        help="networks as in a sweep, such as 'model=plain model.depth=20,56'; overrides without "
        "model=, such as data=cifar10, apply to all lines; default: plain networks, ResNets and "
        "DenseNet-BCs on data=digits",
    )  # fmt: skip
    _add_number(command, "--images", 64, "training images, in one batch")
    _add_number(command, "--seeds", 3, "random draws of the weights")
    _add_figures(command)


def _add_saliency(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pictures", nargs="+", type=Path, default=[], metavar="IMAGES",
        help="files and folders of images; default: test images",
    )  # fmt: skip
    _add_max_pixels(command)
    command.add_argument(
        "--class", dest="class_name", metavar="NAME",
        help="class to explain; default: the class that is predicted",
    )  # fmt: skip
    command.add_argument(
        "--layer", nargs="+", default=[], metavar="NAME",
        help="module whose feature maps Grad-CAM uses, one for all runs or one for each; "
        "default: the last feature maps",
    )  # fmt: skip
    command.add_argument(
        "--patch", type=_count, metavar="PIXELS",
        help="side of the square that hides a part; default: a quarter of the image's",
    )  # fmt: skip


def _add_runs(command: argparse.ArgumentParser) -> None:
    """The arguments of a study of trained runs."""
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs to compare")
    _add_figures(command)
    _add_trust(command)
    _add_data_root(command)


def _add_data_root(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-root", metavar="FOLDER", help="folder of the data, if they have moved since the run"
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a checkpoint in it")
    _add_trust(command)


def _add_inference(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    command.add_argument(
        "--precision", choices=("32-true", "bf16-mixed"),
        help="default: as in training; 32-true for a run in 16-mixed",
    )  # fmt: skip
    command.add_argument("--batch-size", type=_count, metavar="N", help="default: as in training")
    _add_max_pixels(command)


def _add_figures(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="FOLDER", help="default: figures"
    )
    command.add_argument(
        "--format", default="png", metavar="png,svg,pdf,json",
        help="of the figures, default: png; with json, what is printed is JSON, and with json alone no "
        "file is written",
    )  # fmt: skip


def _add_format(command: argparse.ArgumentParser, *forms: str) -> None:
    command.add_argument("--format", choices=forms, default=forms[0], help=f"default: {forms[0]}")


def _export_format(text: str) -> tuple[str, bool]:
    """The format of the file, and whether what is printed is JSON."""
    names = [name.strip() for name in text.split(",")]
    files = [name for name in names if name in ENDINGS]
    if len(files) != 1 or not set(names) <= {*ENDINGS, "json"}:
        rule = f"must be one of {', '.join(ENDINGS)}, perhaps with json, as onnx,json"
        raise argparse.ArgumentTypeError(f"{text}: {rule}")
    return files[0], "json" in names


def _size(text: str) -> int | None:
    return None if text == "whole" else _count(text)


def _quality(text: str) -> int | str:
    return text if text == "raw" else _count(text)


def _add_trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trust", action="append", default=[], metavar="NAME",
        help="a class or package of yours that the run's folder names, such as my_package.MyNet",
    )  # fmt: skip


def _add_max_pixels(command: argparse.ArgumentParser, does: str = "skip") -> None:
    command.add_argument(
        "--max-pixels", type=_count, metavar="N",
        help=f"{does} images of more pixels; default: 178,956,970",
    )  # fmt: skip


def _add_config_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config-dir", metavar="FOLDER",
        help="a folder of your own choices, such as FOLDER/model/mine.yaml",
    )  # fmt: skip


def _add_number(
    command: argparse.ArgumentParser, option: str, default: int, meaning: str, metavar: str = "N"
) -> None:
    text = f"{meaning}; default: {default}"
    command.add_argument(option, type=_count, default=default, metavar=metavar, help=text)


def _count_or_0(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count
