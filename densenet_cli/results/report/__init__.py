"""One HTML page with tables, figures, configurations and environments; it loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from densenet_cli.files.atomic_file import replace_file
from densenet_cli.plain_text import printable
from densenet_cli.results import plots
from densenet_cli.results.baseline import Judged
from densenet_cli.results.records import Run, Unreadable
from densenet_cli.results.report import content
from densenet_cli.results.report.inline_svg import inline_svg, width_inches
from densenet_cli.results.settings import Setting

HERE = Path(__file__).parent


def write(
    settings: Sequence[Setting],
    runs: Sequence[Run],
    unreadable: Sequence[Unreadable],
    path: Path,
    judged: Judged | None = None,
) -> Path:
    """Write the page.

    Args:
        settings: of the runs.
        runs: all runs.
        unreadable: records that were left out; the page lists them.
        path: the file; an existing one is replaced.
        judged: the decisions, if the settings were compared with a baseline.

    Returns:
        The path.

    Raises:
        UserError: if it cannot be written.
    """
    script = (HERE / "page.js").read_text(encoding="utf-8")
    page = _templates().get_template("page.html.j2")
    text = page.render(
        summary=content.summary(settings, runs),
        table=content.results_table(settings, runs, judged),
        figures=_figures(settings, judged),
        unfinished=content.unfinished(settings),
        environments=content.environments(runs),
        unreadable=unreadable,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    replace_file(path, text)
    return path


def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # text from a record is shown, and is never markup
        finalize=lambda value: value if isinstance(value, Markup) else printable(value, keep="\n"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _figures(settings: Sequence[Setting], judged: Judged | None) -> list[dict[str, object]]:
    drawings = {kind: plots.draw(settings, kind, judged) for kind in plots.KINDS}
    return [
        {
            "name": kind,
            "title": plots.KINDS[kind].title,
            "svg": Markup(inline_svg(drawing, kind)),
            "width": width_inches(drawing),
            "note": drawing.note,
        }
        for kind, drawing in drawings.items()
        if drawing
    ]
