"""Tables: text wraps, numbers do not, and text from records has no effect on the terminal."""

import io

from rich.console import Console
from rich.text import Text

from densenet_cli.figures import terminal


def _lines(table, width):
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(table)
    return [line.strip() for line in console.export_text().splitlines() if line.strip()]


def test_text_wraps_in_a_narrow_terminal_and_numbers_stay_whole():
    table = terminal.table(
        ["job", "multiply-adds"], [["a" * 30, "1,234,567"], ["b", "89"]], text=["job"]
    )
    cells = [line.split() for line in _lines(table, width=26)[2:]]
    assert cells[0][1] == "1,234,567"
    assert "".join(first for first, *_ in cells) == "a" * 30 + "b"
    assert max(len(first) for first, *_ in cells) < 30


def test_neither_markup_nor_control_characters_take_effect():
    rows = [["[red]x[/red]\x1b[31m", Text("done", "green")]]
    lines = _lines(terminal.table(["a [b]", "state"], rows, text=["a [b]", "state"]), width=80)
    assert lines[0].split() == ["a", "[b]", "state"]
    assert lines[-1].split() == ["[red]x[/red]\\x1b[31m", "done"]
