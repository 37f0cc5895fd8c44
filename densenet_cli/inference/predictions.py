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
        labels: those of several labels that have a probability above 0.5; None if images have one each.
    """

    path: str
    classes: list[tuple[str, float]]
    labels: list[str] | None = None


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
            order = likeliest(logits, top)
            probabilities = trained.probabilities(logits)
            rows = zip(indices, order.tolist(), probabilities.tolist(), strict=True)
            for index, likely, values in rows:
                classes = [(trained.class_names[one], values[one]) for one in likely]
                yield Prediction(paths[index], classes, _labels(trained, values))
        yield from unreadable


def _labels(trained: TrainedNetwork, probabilities: list[float]) -> list[str] | None:
    """See Prediction.labels."""
    if not trained.several_labels:
        return None
    pairs = zip(trained.class_names, probabilities, strict=True)
    return [name for name, probability in pairs if probability > 0.5]


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
    headings: tuple[str, ...] = ("image", "class", "probability", "next classes")
    rows: list[tuple[str, ...]] = []
    for prediction in predictions:
        shown = [(name, f"{100 * probability:.1f} %") for name, probability in prediction.classes]
        if prediction.labels is not None:
            headings = ("image", "labels", "most probable")
            rows.append((prediction.path, ", ".join(prediction.labels) or "none", _listed(shown)))
        else:
            rows.append((prediction.path, *shown[0], _listed(shown[1:])))
    console(file).print(table(headings, rows, text=[one for one in headings if one != "probability"]))


def _listed(classes: Sequence[tuple[str, str]]) -> str:
    return ", ".join(" ".join(pair) for pair in classes)


def _as_csv(predictions: Iterable[Prediction], file: TextIO) -> None:
    write_csv(map(_csv_row, predictions), file)


def _csv_row(prediction: Prediction) -> dict[str, str]:
    """Columns file, class, probability, class_2, probability_2, ...; of several labels also labels."""
    row = {"file": prediction.path}
    for place, (name, probability) in enumerate(prediction.classes, start=1):
        suffix = f"_{place}" if place > 1 else ""
        row |= {f"class{suffix}": name, f"probability{suffix}": f"{probability:.6f}"}
    return row if prediction.labels is None else row | {"labels": ";".join(prediction.labels)}


def _as_json(predictions: Iterable[Prediction], file: TextIO) -> None:
    """A list, one element a line."""
    before = "[\n"
    for prediction in predictions:
        classes = [
            {"class": name, "probability": round(probability, 6)}
            for name, probability in prediction.classes
        ]
        found = {"file": prediction.path, "classes": classes, "labels": prediction.labels}
        text = json.dumps(found, ensure_ascii=False)
        file.write(before + in_json(text))
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")
