"""Hostile folders: pipes, circular links, odd names, files that are endless or not readable."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import records
from case import Fault, in_child, preload, random_numbers, until

STRANGER = 12345  # a user without permission to read our locked files
NAMES = (
    *("a[b]", "[b]x", "[red]x", "a b", "-x", "=1+1", "%d", "{x}", "~", "a'b\"c", "a\nb", "\x1b[2J\x07"),
    *("é", "\u202eabc", "x" * 250, "año", "a=1,b=2", "*", "?", "$HOME", "`id`", "a;b", "#", "!", "\\"),
)


def _fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(1 << 36)  # 64 GiB of zeros that need no space


def _long_table(path: Path) -> None:
    head, *rows = path.read_text().splitlines(keepends=True)
    with path.open("w") as file:
        file.write(head)
        for _ in range(300):
            file.write("".join(rows) * 1000)


def _locked(path: Path) -> None:
    path.chmod(0)


def _loops(run: Path) -> None:
    for place in (run, run.parent, run.parent.parent):
        (place / "loop").symlink_to(".")
        (place / "up").symlink_to("..")
        (place / "itself").symlink_to("itself")


def _deep_folders(run: Path) -> None:
    place = run.parent
    for _ in range(200):
        place = place / "deep"
    place.mkdir(parents=True)


def _named(name: str | bytes) -> Callable[[Path], None]:
    def rename(run: Path) -> None:
        os.rename(os.fsencode(run), os.path.join(os.fsencode(run.parent), os.fsencode(name)))

    return rename


def _of_file(harm: Callable[..., None], name: str, *words: Any) -> Callable[[Path], None]:
    return lambda run: harm(run / name, *words)


def _all() -> dict[str, Callable[[Path], None]]:
    """Description -> what is done to a run's folder."""
    harms: dict[str, Callable[[Path], None]] = {
        "links in a circle": _loops,
        "200 folders in each other": _deep_folders,
        "a locked run": _locked,
        "a locked sweep": lambda run: _locked(run.parent),
    }
    files = ("run.json", "metrics.csv", "outcomes.json", "config.yaml", "overrides.yaml")
    for name in (*files, "../sweep.yaml"):
        harms |= {
            f"{name} is a pipe": _of_file(_fifo, name),
            f"{name} is a folder": _of_file(_folder_instead, name),
            f"{name} is endless": _of_file(_endless, name),
            f"{name} is /dev/zero": _of_file(_link, name, "/dev/zero"),
            f"{name} is a link to itself": _of_file(_link, name, Path(name).name),
            f"{name} is a link to nowhere": _of_file(_link, name, "nowhere"),
            f"{name} is locked": _of_file(_locked, name),
        }
    harms["metrics.csv of 600,000 rows"] = _of_file(_long_table, "metrics.csv")
    for word in (*NAMES, b"\xff\xfe"):
        harms[f"a run is called {word!r}"] = _named(word)
    return harms


def cases(
    seed: int, scratch: Path, deadline: float, only: int | None
) -> Iterator[tuple[int, str, Any]]:
    """Each case is one hostile folder, read by all commands."""
    made = in_child(records._make, scratch / "made")
    if made.status:
        raise SystemExit(f"the records could not be made: {made.said}")
    for line in _lines("outputs/mine/growth_rate=4", "outputs/mine/growth_rate=6"):
        preload(
            partial(_type, line, os.getuid()), scratch / "made"
        )  # STRANGER may not read the modules
    harms, sweep = list(_all().items()), scratch / "made/outputs/mine"
    numbers = list(range(len(harms)))
    random_numbers(seed, "hostile", 0).shuffle(numbers)  # if time is short, another seed tries others
    for number in [only] if only is not None else until(deadline, iter(numbers)):
        what, harm = harms[number]
        yield number, what, partial(_try, what, harm, sweep, scratch / str(number))


def _try(what: str, harm: Callable[[Path], None], sweep: Path, folder: Path) -> None:
    copy = folder / "outputs/mine"
    shutil.copytree(sweep, copy)
    runs = sorted(path.parent for path in copy.glob("*/run.json"))
    harm(runs[0])
    places = [os.path.relpath(path, folder) for path in (copy, *copy.parent.glob("mine/*"), runs[1])]
    run = next((place for place in places[1:] if place != os.path.relpath(runs[1], folder)), places[0])
    user = STRANGER if os.getuid() == 0 and "locked" in what else os.getuid()
    for line in _lines(run, places[-1]):
        ended = in_child(partial(_type, line, user), folder, timeout=120)
        try:
            ended.without_traces()
        except Fault as fault:
            raise Fault(f"{' '.join(map(repr, line))} (as user {user}): {fault}") from None
        if ended.status not in (0, 1, 2):
            raise Fault(f"{line} ends with status {ended.status}: {ended.said}")
    _unlock_and_remove(folder)


def _lines(run: str, other: str) -> list[list[str]]:
    """Commands that read a run whose folder was changed."""
    return [
        ["densenet-results", "table", "outputs"],
        ["densenet-results", "table", "outputs/mine", "--format", "csv"],
        ["densenet-results", "watch", "outputs/mine", "--once"],
        ["densenet-results", "compare", run, other],
        ["densenet-results", "decide", run, other],
        ["densenet-results", "report", "outputs/mine", "--output", "page.html"],
        ["densenet-model", "predict", run, "outputs"],
        ["densenet-run", f"resume={run}"],
        ["densenet-run", f"resume={run}", "data.num_workers=0"],
    ]


def _type(line: list[str], user: int) -> None:
    from densenet_cli.commands import model as model_cli
    from densenet_cli.commands import results
    from densenet_cli.commands import run as cli

    if user != os.getuid():
        os.setuid(user)
    sys.argv = line
    {"densenet-results": results, "densenet-model": model_cli, "densenet-run": cli}[line[0]].main()


def _unlock_and_remove(folder: Path) -> None:
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
