"""What densenet-run prints at the start and at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from densenet_cli import units
from densenet_cli.plain_text import printable
from densenet_cli.units import count, duration, energy

SHOWN_LABELS = 20  # at most, of images that can have several
OF_SPLIT = {"train": "training", "validation": "validation", "test": "test"}


def announce(console: Console, fields: dict[str, Any], folder: Path) -> None:
    """Print which network is trained or tested, on which data and device, and the run's folder."""
    config, data = fields["config"], fields["data"]
    is_test = config["task"] == "test"
    network = config["model"].get("name") or config["model"]["_target_"].rpartition(".")[2]
    images = data["sizes"]["test" if is_test else "train"]
    size = "x".join(map(str, data["image_size"]))
    if not is_test and (side := config["data"].get("train_size")) is not None:
        size = f"{side}x{side}, tested at {size}"
    kind = "grey images" if data.get("channels") == 1 else "images"
    _say(
        console,
        f"{'testing' if is_test else 'training'} {network}, {fields['parameters']:,} parameters, "
        f"on {data['name']}, {images:,} {kind} of {size}{_pack(data)}; "
        f"{_device(fields)}; {relative(folder)}",
    )
    if data.get("several_labels"):  # all columns of 0 and 1 of a table are, if it is not said which
        names = data["class_names"]
        more = f" and {len(names) - SHOWN_LABELS:,} more" if len(names) > SHOWN_LABELS else ""
        _say(console, f"labels: {', '.join(names[:SHOWN_LABELS])}{more}")
    for option, name in (("budget", "budget"), ("recipe.steps", "length")):
        if (length := fields.get(name)) is None:
            continue
        cost = length["multiply_adds"]
        adds = "" if cost is None else f", {count(cost)} multiply-adds of training"
        steps = f"{length['steps']:,} steps, {length['epochs']:.4g} epochs"
        _say(console, f"{option}={length['planned']}: {steps}{adds}")


def show(console: Console, fields: dict[str, Any], folder: Path) -> None:
    """Print the results of a finished run: errors or AUROC, size, cost, time, folder.

    Args:
        console: where they are printed.
        fields: the content of run.json.
        folder: the run's folder.
    """
    crops = fields["config"]["data"].get("test_crops", 1)
    for title, text in [*_results(fields["results"], fields["data"], crops), *_costs(fields)]:
        _say(console, f"{title:<18} {text}")
    counts = fields.get("skipped_images") or {}
    if any(counts.values()):
        shown = ", ".join(f"{count:,} {OF_SPLIT[split]}" for split, count in counts.items() if count)
        _say(console, f"{'skipped images':<18} {shown}: see skipped.json")
    _say(console, f"{'folder':<18} {relative(folder)}")


def next_steps(console: Console, lines: list[str]) -> None:
    """Print commands to type next."""
    if lines:
        console.print("\nNext, type one of:", highlight=False)
        for line in lines:
            _say(console, f"  {line}")


def _say(console: Console, line: str) -> None:
    """Print one line as it is: brackets in names are not markup."""
    console.print(Text(printable(line)), soft_wrap=True)


def _pack(data: dict[str, Any]) -> str:
    """Which pack the images are read from: " from a pack (shorter side 256, JPEG 90)"."""
    if (pack := data.get("pack")) is None:
        return ""
    size = "whole" if pack["size"] is None else f"shorter side {pack['size']}"
    files = "files" if pack["size"] is None else f"JPEG {pack['quality']}"
    return f" from a pack ({size}, {'pixels' if pack['quality'] == 'raw' else files})"


def relative(folder: Path) -> Path:
    """The folder as it is typed from the working directory."""
    path = Path(os.path.relpath(folder))
    return folder if path.parts[:1] == ("..",) else path


def _device(fields: dict[str, Any]) -> str:
    """The device, number format and implementation: "..., 2 threads, bf16-mixed, fused"."""
    parts = [fields["device"], fields["precision"], fields.get("implementation")]
    return ", ".join(part for part in parts if part)


def _results(results: dict[str, Any], data: dict[str, Any], crops: int) -> Iterator[tuple[str, str]]:
    is_auroc = data.get("several_labels", False)
    word, shown = ("AUROC", units.auroc) if is_auroc else ("error", _percent)
    error = results.get("test_error")
    if error is None:  # trainer.limit_test_batches=0; or each label is on no image, or on all
        yield f"test {word}", "not measured"
        return
    yield (
        f"test {word}",
        f"{shown(error)}{_beside(results)}" + (f", {crops} crops of each image" if crops > 1 else ""),
    )
    best, epoch = results.get("test_error_best"), results.get("best_epoch")
    if best is None:
        return
    if results.get("best_on_test"):
        one = ", of one crop" if crops > 1 else ""
        why = "chosen by the test images, not to be reported"
        yield "  highest" if is_auroc else "  lowest", f"{shown(best)}{one}, epoch {epoch}: {why}"
        return
    yield "  last epoch", shown(results["test_error_last"])
    step = f", step {results['best_step']:,}" if "best_step" in results else ""
    yield "  best epoch", f"{shown(best)}, epoch {epoch}{step}: chosen by held-out images"
    last, lowest = results["validation_error_last"], results["validation_error_best"]
    if last is not None and lowest is not None:
        yield f"validation {word}", f"{shown(last)} last, {shown(lowest)} best"


def _beside(results: dict[str, Any]) -> str:
    """What is shown beside the error: " (top-5: 1.20 %, balanced: 8.34 %)"; F1 of several labels."""
    percents = {"top-5": "test_top5_error", "balanced": "test_balanced_error"}
    parts = [f"{word}: {_percent(results[key])}" for word, key in percents.items() if key in results]
    if results.get("test_f1") is not None:
        parts.append(f"F1: {results['test_f1']:.4f}")
    return f" ({', '.join(parts)})" if parts else ""


def _percent(error: float) -> str:
    return f"{error:.2f} %"


def _costs(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "parameters" not in fields:
        return
    yield "parameters", f"{fields['parameters']:,}"
    yield "multiply-adds", f"{fields['multiply_adds']:,} per image"
    has_length = fields.get("budget") or fields.get("length")
    if has_length and fields.get("train_seconds") is not None:
        adds = fields.get("train_multiply_adds")
        used = [] if adds is None else [f"{count(adds)} multiply-adds"]
        yield "training", ", ".join([*used, duration(fields["train_seconds"])])
    if fields.get("images_per_second"):
        yield "training speed", f"{fields['images_per_second']:,.0f} images/s"
    if fields.get("energy_joules") is not None:
        yield "energy", f"{energy(fields['energy_joules'])} of training"
    yield "device", _device(fields)
    if fields.get("seconds") is not None:
        yield "time", duration(fields["seconds"])
