"""What a trained network takes pictures for: the likeliest classes, written as table, CSV or JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.table import Table
from torch import Tensor

from densenet_cli.data.photo import centre_crop, ten_crops
from densenet_cli.figures.terminal import console, plain
from densenet_cli.files.csv_file import write_csv
from densenet_cli.inference import pictures
from densenet_cli.inference.pictures import Unreadable
from densenet_cli.inference.trained import Trained
from densenet_cli.options import UserError
from densenet_cli.plain_text import in_json
from densenet_cli.training.metrics import likeliest


@dataclass(frozen=True)
class Prediction:
    """What a picture was taken for.

    Attributes:
        path: the file.
        classes: names and probabilities, the likeliest first.
    """

    path: str
    classes: list[tuple[str, float]]


def predict(
    trained: Trained,
    paths: Sequence[str],
    top: int,
    batch_size: int | None = None,
    ten_crop: bool = False,
) -> Iterator[Prediction | Unreadable]:
    """Ask the network about pictures, in their order.

    Args:
        trained: the network.
        paths: the files.
        top: how many classes to name for each.
        batch_size: pictures, or crops of them, at a time; None: as many as in the network's run.
        ten_crop: ask about ten parts of each picture and take the mean of the answers (logits), as
            fb.resnet.torch does for the figures of Huang et al. 2017, table 3.

    Raises:
        UserError: for ten crops, if the network takes pictures whole.
    """
    if ten_crop and trained.kept == 1:
        raise UserError("--ten-crop: this network takes pictures whole; it is for data=image_folder")
    cut = functools.partial(
        ten_crops if ten_crop else centre_crop, size=trained.image_size[0], fraction=trained.kept
    )
    batch_size = batch_size or trained.batch_size
    at_once = max(1, batch_size // 10) if ten_crop else batch_size
    return _answers(trained, paths, cut, top, at_once)


def _answers(
    trained: Trained, paths: Sequence[str], cut: Callable[[str], Tensor], top: int, batch_size: int
) -> Iterator[Prediction | Unreadable]:
    for indices, images, unreadable in pictures.batches(paths, cut, batch_size):
        if indices:
            logits = trained.logits(images.flatten(0, -4)).unflatten(0, (len(indices), -1)).mean(1)
            classes = likeliest(logits, top)
            chances = logits.softmax(1).gather(1, classes)
            for index, labels, its in zip(indices, classes.tolist(), chances.tolist(), strict=True):
                names = [trained.class_names[label] for label in labels]
                yield Prediction(paths[index], list(zip(names, its, strict=True)))
        yield from unreadable


def readable(
    answers: Iterable[Prediction | Unreadable], unreadable: list[Unreadable]
) -> Iterator[Prediction]:
    """The predictions as they come; what could not be read is put into a list."""
    for answer in answers:
        if isinstance(answer, Unreadable):
            unreadable.append(answer)
        else:
            yield answer


def write(predictions: Iterable[Prediction], form: str, file: TextIO) -> None:
    """Write predictions, one a row, as they come (table: when all are there)."""
    {"table": _as_table, "csv": _as_csv, "json": _as_json}[form](predictions, file)


def _as_table(predictions: Iterable[Prediction], file: TextIO) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("picture", overflow="fold")
    table.add_column("class")
    table.add_column("probability", justify="right")
    table.add_column("or else", overflow="fold")
    for prediction in predictions:
        (name, chance), *others = prediction.classes
        rest = ", ".join(f"{other} {100 * its:.1f} %" for other, its in others)
        table.add_row(plain(prediction.path), plain(name), f"{100 * chance:.1f} %", plain(rest))
    console(file).print(table)


def _as_csv(predictions: Iterable[Prediction], file: TextIO) -> None:
    write_csv(map(_csv_row, predictions), file)


def _csv_row(prediction: Prediction) -> dict[str, str]:
    """Columns file, class, probability, class_2, probability_2, ..."""
    row = {"file": prediction.path}
    for place, (name, probability) in enumerate(prediction.classes, start=1):
        suffix = f"_{place}" if place > 1 else ""
        row |= {f"class{suffix}": name, f"probability{suffix}": f"{probability:.6f}"}
    return row


def _as_json(predictions: Iterable[Prediction], file: TextIO) -> None:
    """A list, an element a line."""
    before = "[\n"
    for prediction in predictions:
        classes = [
            {"class": name, "probability": round(chance, 6)} for name, chance in prediction.classes
        ]
        text = json.dumps({"file": prediction.path, "classes": classes}, ensure_ascii=False)
        file.write(before + in_json(text))
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")
