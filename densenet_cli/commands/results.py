"""densenet-results: tables, figures and reports of the runs that densenet-run has recorded."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_cli.commands.ending import errors_as_messages
from densenet_cli.commands.results_parser import parser
from densenet_cli.files.json_document import json_document
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import AS_SIMILAR, Formatter, printable
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader
from densenet_cli.results.records import Run, Unreadable, read_runs

if TYPE_CHECKING:
    from densenet_cli.results.baseline import Judged
    from densenet_cli.results.settings import Setting
    from densenet_cli.results.table import Table

log = logging.getLogger(__name__)


def main() -> None:
    """densenet-results table|plot|report|decide|watch|compare ..."""
    with EndWithReader("densenet-results") as ending:
        _dispatch(ending)


def _dispatch(ending: EndWithReader) -> None:
    """Parse the arguments and call the command that they name."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=AS_SIMILAR)  # a terminal that cannot show ± or θ shows "?"
    if logging.lastResort:  # prints warnings, since no other handler is set up
        logging.lastResort.setFormatter(Formatter("densenet-results: %(message)s"))
    command_line = parser()
    args = command_line.parse_args(_joined(sys.argv[1:]))
    if not hasattr(args, "command"):
        command_line.print_help()
        return
    writes_files = getattr(args, "output", None) is not None
    ending.at_once = not writes_files
    with errors_as_messages("densenet-results"):
        COMMANDS[args.command](args)


def _joined(args: Sequence[str]) -> list[str]:
    """`--sort -error` as `--sort=-error`: argparse would read "-error" as an option."""
    joined: list[str] = []
    for arg in args:
        if joined and joined[-1] == "--sort" and not arg.startswith("--"):
            joined[-1] += f"={arg}"
        else:
            joined.append(arg)
    return joined


def _table(args: argparse.Namespace) -> None:
    from densenet_cli.results import formats
    from densenet_cli.results.settings import settings
    from densenet_cli.results.table import rows, table

    runs, _ = _runs(args.folders)
    own = settings(runs, args.group_by)
    judged = _judged(args, own)
    found = rows(own, args.paper, args.years, args.sort, judged, args.energy)
    if args.format in ("csv", "json"):
        _warn_of_repeats([row.setting for row in found])
        sys.stdout.write({"csv": formats.as_csv, "json": formats.as_json}[args.format](found))
    else:
        _print(table(found, judged), args.format)


def _judged(args: argparse.Namespace, found: Sequence[Setting]) -> Judged | None:
    """The decisions of --baseline, if it was typed. Raises UserError."""
    if args.baseline is None:
        if args.margin is not None:
            raise OptionError("--margin", args.margin, "needs --baseline, the setting to compare with")
        return None
    if getattr(args, "group_by", ()):
        rule = "cannot be compared with groups of settings: leave out --group-by"
        raise OptionError("--baseline", args.baseline, rule)
    from densenet_cli.results import baseline

    return baseline.judge(found, baseline.find(found, args.baseline), args.margin)


def _print(shown: Table, form: str) -> None:
    """Print a table for a terminal, as Markdown or as LaTeX."""
    from densenet_cli.figures import terminal
    from densenet_cli.results import formats

    if form == "rich":
        console = terminal.console()
        console.print(formats.as_rich(shown, console))
    else:
        write = {"markdown": formats.as_markdown, "latex": formats.as_latex}[form]
        sys.stdout.write(write(shown))


def _plot(args: argparse.Namespace) -> None:
    from densenet_cli.figures.drawing import output_formats
    from densenet_cli.results import plots
    from densenet_cli.results.settings import settings

    runs, _ = _runs(args.folders)
    found = settings(runs, args.group_by)
    _warn_of_repeats(found)
    judged = _judged(args, found)
    formats, is_json = output_formats(args.format)
    if is_json:
        document = plots.document(found, args.kind, args.output, formats, judged)
        sys.stdout.write(json_document(document))
        return
    for path in plots.write(found, args.kind, args.output, formats, judged):
        print(printable(path))


def _report(args: argparse.Namespace) -> None:
    from densenet_cli.results import report
    from densenet_cli.results.settings import settings

    runs, unreadable = _runs(args.folders)
    found = settings(runs)
    path = report.write(found, runs, unreadable, args.output, _judged(args, found))
    if args.format == "json":
        left_out = [{"path": str(item.path), "reason": item.reason} for item in unreadable]
        counts = {"settings": len(found), "runs": len(runs)}
        sys.stdout.write(json_document({"file": str(path), **counts, "left_out": left_out}))
    else:
        print(printable(path))


def _decide(args: argparse.Namespace) -> None:
    from densenet_cli.record.sweep_file import read_sweep
    from densenet_cli.results import baseline, decide, until_decided
    from densenet_cli.results.settings import settings

    folders = [Path(word) for word in args.what or ["outputs"]]
    if args.baseline is not None:
        found = settings(_runs(folders)[0])
        chosen = baseline.find(found, args.baseline)
    elif len(folders) == 1 and (fixed := read_sweep(folders[0]).until_decided):
        found = settings(_runs(folders)[0])
        chosen = until_decided.baseline_of(fixed, found)
    else:
        found, chosen = decide.two(args.what, lambda folders: _runs(folders)[0])
    judged = baseline.judge(found, chosen, args.margin)
    if args.format in ("csv", "json"):
        sys.stdout.write({"csv": decide.as_csv, "json": decide.as_json}[args.format](judged))
    else:
        _print(decide.as_table(judged), args.format)


def _watch(args: argparse.Namespace) -> None:
    from densenet_cli.results.watch import document, watch

    if args.format == "json":
        sys.stdout.write(json_document(document(args.folder)))
    else:
        watch(args.folder, args.interval, args.once)


def _compare(args: argparse.Namespace) -> None:
    from densenet_cli.results import compare

    if args.format == "json":
        sys.stdout.write(json_document(compare.document(args.a, args.b)))
    else:
        compare.show(args.a, args.b)


def _warn_of_repeats(found: Sequence[Setting]) -> None:
    """Where the output has no notes: say which runs do not count."""
    from densenet_cli.results.notes import notes_on_repeats

    for note in notes_on_repeats(found):
        log.warning("%s", note)


def _runs(folders: Sequence[Path]) -> tuple[list[Run], list[Unreadable]]:
    """All runs, with a warning for each record left out. Raises UserError if there are no runs."""
    runs, unreadable = read_runs(folders)
    for item in unreadable:
        log.warning("left out: %s %s", item.path, item.reason)
    if not runs:
        where = ", ".join(map(str, folders))
        raise UserError(f"{where}: no runs found; train one with densenet-run, or name another folder")
    return runs, unreadable


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "table": _table,
    "plot": _plot,
    "report": _report,
    "decide": _decide,
    "watch": _watch,
    "compare": _compare,
}

if __name__ == "__main__":
    begin("densenet-results")
    main()
