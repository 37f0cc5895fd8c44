"""A trained network's predictions for image files, written as a table, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from torch import Tensor

from densenet_cli.data.picture import Picture
from densenet_cli.figures.terminal import console, table
from densenet_cli.files.csv_file import write_csv
from densenet_cli.inference import image_batches
from densenet_cli.inference.image_batches import Unreadable
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.plain_text import in_json
from densenet_cli.training.metrics import likeliest


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: the file.
        classes: names and probabilities, the most probable first.
    """

    path: str
    classes: list[tuple[str, float]]


def predict(
    trained: TrainedNetwork,
    paths: Sequence[str],
    top: int,
    batch_size: int | None = None,
    ten_crop: bool = False,
) -> Iterator[Prediction | Unreadable]:
    """Predict the classes of image files, in their order.

    Args:
        trained: the network.
        paths: the files.
        top: number of classes for each image.
        batch_size: images, or crops of them, at a time; None: as in the network's run.
        ten_crop: average the logits of ten crops of each image, as fb.resnet.torch does for the errors
            in Huang et al. 2017, table 3.

    Raises:
        UserError: ten crops are asked for, and the network takes images whole.
    """
    if ten_crop:
        trained.check_ten_crops()
    crop = trained.ten_crops if ten_crop else trained.crop
    batch_size = batch_size or trained.batch_size
    at_once = max(1, batch_size // 10) if ten_crop else batch_size
    return _predictions(trained, paths, crop, top, at_once)


def _predictions(
    trained: TrainedNetwork,
    paths: Sequence[str],
    crop: Callable[[Picture], Tensor],
    top: int,
    batch_size: int,
) -> Iterator[Prediction | Unreadable]:
    for indices, images, unreadable in image_batches.batches(paths, crop, batch_size):
        if indices:
            logits = trained.logits(images)
            classes = likeliest(logits, top)
            probabilities = logits.softmax(1).gather(1, classes)
            for index, labels, values in zip(
                indices, classes.tolist(), probabilities.tolist(), strict=True
            ):
                names = [trained.class_names[label] for label in labels]
                yield Prediction(paths[index], list(zip(names, values, strict=True)))
        yield from unreadable


def readable(
    results: Iterable[Prediction | Unreadable], unreadable: list[Unreadable]
) -> Iterator[Prediction]:
    """Yield the predictions; append the files that cannot be read to a list."""
    for result in results:
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            yield result


def write(predictions: Iterable[Prediction], form: str, file: TextIO) -> None:
    """Write a row for each prediction: CSV and JSON as they come, a table when all are there."""
    {"table": _as_table, "csv": _as_csv, "json": _as_json}[form](predictions, file)


def _as_table(predictions: Iterable[Prediction], file: TextIO) -> None:
    headings = ("image", "class", "probability", "next classes")
    rows = []
    for prediction in predictions:
        (name, probability), *others = prediction.classes
        rest = ", ".join(f"{other} {100 * value:.1f} %" for other, value in others)
        rows.append((prediction.path, name, f"{100 * probability:.1f} %", rest))
    console(file).print(table(headings, rows, text=("image", "class", "next classes")))


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
    """A list, one element a line."""
    before = "[\n"
    for prediction in predictions:
        classes = [
            {"class": name, "probability": round(probability, 6)}
            for name, probability in prediction.classes
        ]
        text = json.dumps({"file": prediction.path, "classes": classes}, ensure_ascii=False)
        file.write(before + in_json(text))
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")
