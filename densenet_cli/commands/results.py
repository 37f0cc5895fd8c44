"""densenet-results: tables, figures and reports of what densenet-run has left."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_cli.options import UserError
from densenet_cli.plain_text import Parser, printable
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader
from densenet_cli.results.records import Run, Unreadable, read_runs

if TYPE_CHECKING:
    from densenet_cli.results.settings import Setting

DESCRIPTION = "Tables, figures and reports of the runs that densenet-run has left."
EXAMPLES = """\
examples:
  densenet-results table                              a row a setting, of all runs below outputs/
  densenet-results table outputs/sweep --sort error   best first; --sort -error worst first
  densenet-results table --group-by model.growth_rate,model.compression
  densenet-results table --paper --format markdown    with the published figures, ready to paste
  densenet-results table --years                      by the year in which each system appeared
  densenet-results plot --kind error_parameters --format svg,pdf
  densenet-results report --output report.html        all of it in one page
  densenet-results watch outputs/sweep                a sweep, while it runs
  densenet-results compare outputs/sweep/0 outputs/sweep/1
"""
TABLE_COLUMNS = """\
columns to sort by: {}

Errors are means over the finished runs of a setting, runs that differ in nothing but the seed. Each
seed counts once, by the run that ended first; repeated, failed and unfinished runs are counted in a
column of their own and never averaged. A folder that holds a file named .published is left out unless
it is named itself: densenet-results table outputs/study. csv and json hold all
numbers unrounded, as NAME_mean, NAME_std (sample standard deviation) and the values of all runs:
{}.
"""


def main() -> None:
    """densenet-results table|plot|report|watch|compare ..."""
    with EndWithReader("densenet-results") as ending:
        _obey(ending)


def _obey(ending: EndWithReader) -> None:
    """Do what the words say."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no ± or θ shows a question mark
    parser = _parser()
    words = parser.parse_args(_joined(sys.argv[1:]))
    if not hasattr(words, "command"):
        parser.print_help()
        return
    ending.at_once = getattr(words, "output", None) is None  # else it leaves files
    try:
        words.command(words)
    except UserError as error:
        sys.exit(f"densenet-results: {printable(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def _joined(words: Sequence[str]) -> list[str]:
    """`--sort -error` as `--sort=-error`: argparse takes what begins with "-" for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--sort" and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _parser() -> argparse.ArgumentParser:
    from densenet_cli.results.columns import COLUMNS
    from densenet_cli.results.formats import FORMATS, RAW_NAMES

    parser = Parser(
        "densenet-results", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=_formatter
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    table = _command(commands, "table", _table, "a row a setting: errors over seeds, size, cost")
    table.epilog = TABLE_COLUMNS.format(", ".join(COLUMNS), ", ".join(RAW_NAMES.values()))
    _add_folders(table)
    _add_group_by(table)
    table.add_argument("--sort", metavar="COLUMN", help="order of the rows; -COLUMN: descending")
    table.add_argument("--format", choices=FORMATS, default="rich", help="rich: for the terminal")
    table.add_argument(
        "--paper",
        action="store_true",
        help="set the published figures beside, where the protocol agrees",
    )
    table.add_argument(
        "--years",
        action="store_true",
        help="begin with the system of each network and its year, and sort by it",
    )
    plot = _command(commands, "plot", _plot, "figures, and the points they are made of as CSV")
    _add_folders(plot)
    _add_group_by(plot)
    plot.add_argument(
        "--kind",
        type=_names,
        action="extend",
        default=[],
        metavar="KIND,...",
        help="default: all there is data for",
    )
    plot.add_argument(
        "--format", type=_names, default=("png",), metavar="png,svg,pdf", help="default: png"
    )
    plot.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="FOLDER", help="default: figures"
    )
    report = _command(commands, "report", _report, "one HTML page with all of it")
    _add_folders(report)
    report.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    watch = _command(commands, "watch", _watch, "a sweep, while it runs")
    watch.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), help="default: outputs")
    watch.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="S", help="seconds; default: 2"
    )
    watch.add_argument("--once", action="store_true", help="show the present state and leave")
    compare = _command(commands, "compare", _compare, "what differs between two runs")
    compare.add_argument("a", type=Path, help="folder of a run")
    compare.add_argument("b", type=Path, help="folder of another run")
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)


def _command(
    commands: argparse._SubParsersAction, name: str, call: Callable, does: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=does, description=does, formatter_class=_formatter)
    parser.set_defaults(command=call)
    return parser


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[Path("outputs")],
        help="searched for runs; default: outputs",
    )


def _add_group_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        type=_names,
        action="extend",
        default=[],
        metavar="OPTION,...",
        help="options as typed to densenet-run, or family, network, data: average over all others",
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be from 0.1 to 3600 seconds")
    return seconds


def _table(words: argparse.Namespace) -> None:
    from densenet_cli.figures import terminal
    from densenet_cli.results import formats
    from densenet_cli.results.settings import settings
    from densenet_cli.results.table import rows, table

    runs, _ = _runs(words.folders)
    found = rows(settings(runs, words.group_by), words.paper, words.years, words.sort)
    if words.format == "rich":
        console = terminal.console()
        console.print(formats.as_rich(table(found), console))
    elif words.format in ("csv", "json"):
        _say_what_repeats([row.setting for row in found])
        sys.stdout.write({"csv": formats.as_csv, "json": formats.as_json}[words.format](found))
    else:
        write = {"markdown": formats.as_markdown, "latex": formats.as_latex}[words.format]
        sys.stdout.write(write(table(found)))


def _plot(words: argparse.Namespace) -> None:
    from densenet_cli.results import plots
    from densenet_cli.results.settings import settings

    runs, _ = _runs(words.folders)
    found = settings(runs, words.group_by)
    _say_what_repeats(found)
    for path in plots.write(found, words.kind, words.output, words.format):
        print(printable(path))


def _report(words: argparse.Namespace) -> None:
    from densenet_cli.results import report
    from densenet_cli.results.settings import settings

    runs, unreadable = _runs(words.folders)
    print(printable(report.write(settings(runs), runs, unreadable, words.output)))


def _watch(words: argparse.Namespace) -> None:
    from densenet_cli.results import watch

    watch.watch(words.folder, words.interval, words.once)


def _compare(words: argparse.Namespace) -> None:
    from densenet_cli.results import compare

    compare.show(words.a, words.b)


def _say_what_repeats(found: Sequence[Setting]) -> None:
    """Where no notes are written: name the runs that do not count."""
    from densenet_cli.results.notes import on_repeats

    for note in on_repeats(found):
        print(f"densenet-results: {printable(note)}", file=sys.stderr)


def _runs(folders: Sequence[Path]) -> tuple[list[Run], list[Unreadable]]:
    """All runs; what cannot be read is named. Raises UserError if there are none."""
    runs, unreadable = read_runs(folders)
    for item in unreadable:
        text = printable(f"left out: {item.path} {item.reason}")
        print(f"densenet-results: {text}", file=sys.stderr)
    if not runs:
        where = ", ".join(map(str, folders))
        raise UserError(f"{where}: there is no run below; densenet-run makes one, and name its folder")
    return runs, unreadable


if __name__ == "__main__":
    begin("densenet-results")
    main()
