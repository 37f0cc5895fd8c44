"""No spreadsheet runs a cell of our CSV, and numbers stay numbers."""

import csv
import io
from pathlib import Path

import pytest
from example_record import fields, write

from densenet_cli.files.csv_file import csv_text, safe_cell
from densenet_cli.results import formats, plots
from densenet_cli.results.records import read_runs
from densenet_cli.results.settings import settings
from densenet_cli.results.table import rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("＝1", "'＝1"),
        ("-", "'-"),
        ("-1.5", "-1.5"),
        ("+3e-05", "+3e-05"),
        (-1.5, -1.5),
        (None, None),
        (True, True),
        ("a=1", "a=1"),
        ("", ""),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(value, expected):
    assert safe_cell(value) == expected


def test_column_names_are_made_safe_too_and_a_missing_value_is_an_empty_cell():
    assert csv_text([{"a": 1, "=b": "=2"}, {"a": -2.5}]) == "a,'=b\n1,'=2\n-2.5,\n"


def test_the_csv_of_the_table_and_of_figures_holds_no_formula():
    data = {**fields()["data"], "name": "=cmd()"}
    for seed, rate in ((0, 12), (1, "@12")):
        options = {"data": data, "data___target_": "x.Images", "model__growth_rate": rate}
        write(Path(f"runs/{seed}"), 4.5, device="+device", seed=seed, **options)
    found = settings(read_runs([Path("runs")])[0])
    texts = [formats.as_csv(rows(found))]
    texts += [
        path.read_text() for path in plots.write(found, [], Path("out"), []) if path.suffix == ".csv"
    ]
    assert len(texts) > 3
    cells = [cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row]
    assert {"'=cmd()+", "'@12", "'+device"} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@")]
