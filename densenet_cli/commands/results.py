"""densenet-results: tables, figures and reports of the runs that densenet-run has recorded."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_cli.commands.ending import errors_as_messages
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import Formatter, Parser, printable
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader
from densenet_cli.results.records import Run, Unreadable, read_runs

if TYPE_CHECKING:
    from densenet_cli.results.baseline import Judged
    from densenet_cli.results.settings import Setting
    from densenet_cli.results.table import Table

log = logging.getLogger(__name__)

DESCRIPTION = "Tables, figures and reports of the runs that densenet-run has recorded."
EXAMPLES = """\
examples:
  densenet-results table                              all runs below outputs/, one row per setting
  densenet-results table outputs/sweep --sort error   lowest error first; --sort -error: highest first
  densenet-results table --group-by model.growth_rate,model.compression
  densenet-results table --paper --format markdown    with the published errors, ready to paste
  densenet-results table --years                      by the year in which each network appeared
  densenet-results plot --kind error_parameters --format svg,pdf
  densenet-results report --output report.html        everything in one page
  densenet-results decide outputs/sweep --baseline model=resnet_20    which settings are better?
  densenet-results watch outputs/sweep                the progress of a sweep
  densenet-results compare outputs/sweep/0 outputs/sweep/1
"""
TABLE_COLUMNS = """\
columns to sort by: {}

A setting is all runs whose options differ only in the seed. Errors are means over its finished runs.
If a seed was run several times, only the run that finished first counts. Failed and unfinished runs
are counted in a column of their own. A folder with a file named .published is skipped unless you name
it: densenet-results table outputs/study.

csv and json hold all numbers unrounded: the mean (NAME_mean), the sample standard deviation (NAME_std)
and the values of all runs, where NAME is one of
{}.
"""
DECIDE = """\
examples:
  densenet-results decide outputs/sweep --baseline model=resnet_20
  densenet-results decide --baseline model.depth=40 --margin 0.3      also: which are equal within 0.3?
  densenet-results decide outputs/old outputs/new                     is old better than new?
  densenet-results decide model=densenet_bc model=resnet_20 --format json

better, worse: the mean test errors differ, by a t-test over seeds: paired by seed where seeds are
shared, Welch's where not; corrected after Holm for the number of comparisons. equal: they differ by
less than --margin, by two one-sided tests; there is no default margin, since what is too little to
matter depends on the data. undecided: none of these can be said yet. Runs are compared only if they
were trained on and tested with the same images.

For two single runs McNemar's test says whether they err on different test images.

exit status: 0, whatever the verdicts; 1 if nothing can be compared; 2 for options that do not exist.
"""


def main() -> None:
    """densenet-results table|plot|report|decide|watch|compare ..."""
    with EndWithReader("densenet-results") as ending:
        _dispatch(ending)


def _dispatch(ending: EndWithReader) -> None:
    """Parse the arguments and call the command that they name."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± or θ shows "?"
    if logging.lastResort:  # prints warnings, since no other handler is set up
        logging.lastResort.setFormatter(Formatter("densenet-results: %(message)s"))
    parser = _parser()
    args = parser.parse_args(_joined(sys.argv[1:]))
    if not hasattr(args, "command"):
        parser.print_help()
        return
    writes_files = getattr(args, "output", None) is not None
    ending.at_once = not writes_files
    with errors_as_messages("densenet-results"):
        args.command(args)


def _joined(args: Sequence[str]) -> list[str]:
    """`--sort -error` as `--sort=-error`: argparse would read "-error" as an option."""
    joined: list[str] = []
    for arg in args:
        if joined and joined[-1] == "--sort" and not arg.startswith("--"):
            joined[-1] += f"={arg}"
        else:
            joined.append(arg)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "densenet-results", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=_formatter
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_table(commands)
    _add_plot(commands)
    report = _command(commands, "report", _report, "tables and figures in one HTML page")
    _add_folders(report)
    _add_baseline(report)
    report.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    _add_decide(commands)
    watch = _command(commands, "watch", _watch, "the progress of a sweep")
    watch.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), help="default: outputs")
    watch.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="S", help="seconds per update; default: 2"
    )
    watch.add_argument("--once", action="store_true", help="show the present state and exit")
    compare = _command(commands, "compare", _compare, "what differs between two runs")
    compare.add_argument("a", type=Path, help="folder of a run")
    compare.add_argument("b", type=Path, help="folder of another run")
    return parser


def _add_table(commands: argparse._SubParsersAction) -> None:
    from densenet_cli.results.columns import COLUMNS
    from densenet_cli.results.formats import FORMATS, RAW_NAMES

    table = _command(commands, "table", _table, "one row per setting: error over seeds, size, cost")
    table.epilog = TABLE_COLUMNS.format(", ".join(COLUMNS), ", ".join(RAW_NAMES.values()))
    _add_folders(table)
    _add_group_by(table)
    table.add_argument("--sort", metavar="COLUMN", help="sort by this column; -COLUMN: descending")
    table.add_argument("--format", choices=FORMATS, default="rich", help="default: rich, for terminals")
    table.add_argument(
        "--paper", action="store_true", help="add published errors, where the protocol is the same"
    )
    _add_baseline(table)
    table.add_argument(
        "--years",
        action="store_true",
        help="add the architecture of each network and the year it appeared, and sort by year",
    )
    table.add_argument(
        "--energy", action="store_true", help="add the energy of training, where it was measured"
    )


def _add_decide(commands: argparse._SubParsersAction) -> None:
    from densenet_cli.results.formats import FORMATS

    description = "whether errors are lower than those of a baseline, or the same"
    decide = _command(commands, "decide", _decide, description)
    decide.epilog = DECIDE
    decide.add_argument(
        "what",
        nargs="*",
        metavar="FOLDER | A B",
        help="folders to search for runs, default: outputs; or A and B, two folders or two settings: "
        "is A better than B?",
    )
    _add_baseline(decide)
    decide.add_argument(
        "--format", choices=FORMATS, default="rich", help="default: rich, for terminals"
    )


def _add_baseline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baseline",
        metavar="SETTING",
        help="the setting that all others are compared with: options as typed for its runs "
        "(model=resnet_20,epochs=10), its title in the table, or the folder of its runs",
    )
    parser.add_argument(
        "--margin",
        type=_points,
        metavar="POINTS",
        help="say equal of errors that differ by less than this, in percent points",
    )


def _add_plot(commands: argparse._SubParsersAction) -> None:
    plot = _command(commands, "plot", _plot, "figures, each with its data as CSV")
    plot.epilog = _kinds  # type: ignore[assignment]
    _add_folders(plot)
    _add_group_by(plot)
    _add_baseline(plot)
    plot.add_argument(
        "--kind",
        type=_names,
        action="extend",
        default=[],
        metavar="KIND,...",
        help="default: all kinds for which there are data",
    )
    plot.add_argument(
        "--format", type=_names, default=("png",), metavar="png,svg,pdf", help="default: png"
    )
    plot.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="FOLDER", help="default: figures"
    )


def _kinds() -> str:
    """The kinds of figures, and what each is drawn from."""
    from densenet_cli.results.plots import KINDS  # loads matplotlib

    lines = [f"  {name:<20} {kind.title}: {kind.needs}" for name, kind in KINDS.items()]
    return "\n".join(["kinds of figures, and what each needs:", *lines])


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)


def _command(
    commands: argparse._SubParsersAction, name: str, call: Callable, description: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=description, description=description, formatter_class=_formatter
    )
    parser.set_defaults(command=call)
    return parser


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[Path("outputs")],
        help="searched for runs at any depth; default: outputs",
    )


def _add_group_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        type=_names,
        action="extend",
        default=[],
        metavar="OPTION,...",
        help="one row per value of these options, averaged over all others; "
        "family, network, data and images count as options",
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _points(text: str) -> float:
    points = float(text)
    if not 0 < points <= 100:
        raise argparse.ArgumentTypeError("must be above 0 and at most 100 percent points")
    return points


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be from 0.1 to 3600 seconds")
    return seconds


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
    from densenet_cli.results import plots
    from densenet_cli.results.settings import settings

    runs, _ = _runs(args.folders)
    found = settings(runs, args.group_by)
    _warn_of_repeats(found)
    judged = _judged(args, found)
    for path in plots.write(found, args.kind, args.output, args.format, judged):
        print(printable(path))


def _report(args: argparse.Namespace) -> None:
    from densenet_cli.results import report
    from densenet_cli.results.settings import settings

    runs, unreadable = _runs(args.folders)
    found = settings(runs)
    print(printable(report.write(found, runs, unreadable, args.output, _judged(args, found))))


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
    from densenet_cli.results.watch import watch

    watch(args.folder, args.interval, args.once)


def _compare(args: argparse.Namespace) -> None:
    from densenet_cli.results import compare

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


if __name__ == "__main__":
    begin("densenet-results")
    main()
