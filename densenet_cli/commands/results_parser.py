"""The command line of densenet-results: a parser for each of its commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from densenet_cli.commands.ending import EXIT_STATUS
from densenet_cli.commands.json_shapes import SHAPES, described
from densenet_cli.plain_text import Parser

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


def parser() -> argparse.ArgumentParser:
    """The parser of densenet-results; the name of the command typed is in `command`."""
    whole = Parser(
        "densenet-results",
        description=DESCRIPTION,
        epilog=f"{EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=_formatter,
    )
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    _add_table(commands)
    _add_plot(commands)
    report = _command(commands, "report", "tables and figures in one HTML page")
    _add_folders(report)
    _add_baseline(report)
    report.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    _add_format(report)
    _add_decide(commands)
    watch = _command(commands, "watch", "the progress of a sweep")
    watch.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), help="default: outputs")
    watch.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="S", help="seconds per update; default: 2"
    )
    watch.add_argument("--once", action="store_true", help="show the present state and exit")
    _add_format(watch, "; json: the present state, once")
    compare = _command(commands, "compare", "what differs between two runs")
    compare.add_argument("a", type=Path, help="folder of a run")
    compare.add_argument("b", type=Path, help="folder of another run")
    _add_format(compare)
    return whole


def _add_table(commands: argparse._SubParsersAction) -> None:
    from densenet_cli.results.columns import COLUMNS
    from densenet_cli.results.formats import FORMATS, RAW_NAMES

    table = _command(commands, "table", "one row per setting: error over seeds, size, cost")
    columns = TABLE_COLUMNS.format(", ".join(COLUMNS), ", ".join(RAW_NAMES.values()))
    table.epilog = f"{columns}\n{table.epilog}"
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
    decide = _command(commands, "decide", description)
    decide.epilog = f"{DECIDE}\n{described('results decide')}"
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
    plot = _command(commands, "plot", "figures, each with its data as CSV")
    shape = plot.epilog
    plot.epilog = lambda: f"{_kinds()}\n\n{shape}"  # type: ignore[assignment]
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
        "--format", type=_names, default=("png",), metavar="png,svg,pdf,json",
        help="default: png; with json, what is printed is JSON, and with json alone no file is written",
    )  # fmt: skip
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
    commands: argparse._SubParsersAction, name: str, description: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=description, description=description, formatter_class=_formatter
    )
    parser.set_defaults(command=name)
    shape = described(f"results {name}") if f"results {name}" in SHAPES else ""
    parser.epilog = "\n".join(filter(None, [shape, EXIT_STATUS]))
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


def _add_format(parser: argparse.ArgumentParser, more: str = "") -> None:
    help_text = f"what is printed; default: rich, for terminals{more}"
    parser.add_argument("--format", choices=("rich", "json"), default="rich", help=help_text)


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
