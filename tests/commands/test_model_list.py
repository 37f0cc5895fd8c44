"""densenet-model list: all networks, each with the numbers of its configuration file or counted."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from densenet_cli.config.compose import CONF


def rows(densenet_model, *words):
    status, out, message = densenet_model("list", "--format", "csv", *words)
    assert status == 0, message
    return list(csv.DictReader(io.StringIO(out)))


def own(text):
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/own.yaml").write_text(text)
    return ["--config-dir", "mine"]


def test_every_network_is_listed_once_with_the_numbers_of_the_papers(densenet_model):
    found = {row["model"]: row for row in rows(densenet_model)}
    files = [path.relative_to(CONF / "model") for path in (CONF / "model").rglob("*.yaml")]
    assert sorted(found) == sorted(path.with_suffix("").as_posix() for path in files)
    assert found["densenet_bc_100"] == {
        "model": "densenet_bc_100",
        "parameters": "769162",
        "multiply_adds": "287929692",
        "image_height": "32",
        "image_width": "32",
        "classes": "10",
        "description": "DenseNet-BC (L=100, k=12), arXiv:1608.06993, table 2",
    }
    large = found["densenet_121"]
    assert [large[key] for key in ("parameters", "image_height", "classes")] == [
        "7978856",
        "224",
        "1000",
    ]
    order = list(found)
    assert order.index("resnet_56") < order.index("resnet_110") < order.index("history/alexnet")


def test_table_and_json_hold_what_csv_holds(densenet_model):
    as_csv = rows(densenet_model)
    as_json = json.loads(densenet_model("list", "--format", "json")[1])
    assert [{key: str(value) for key, value in row.items()} for row in as_json] == as_csv
    out = densenet_model("list")[1]
    assert "for images of 224x224 and 1,000 classes" in out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert lines.keys() >= {row["model"] for row in as_csv}
    assert lines["densenet_bc_100"][1:3] == ["769k", "288M"]


def test_own_networks_have_the_numbers_of_their_first_line_or_are_counted(densenet_model):
    words = own("# Mine, of 22 layers\ndefaults: [densenet_bc, _self_]\ndepth: 22\n")
    line = "# Wide: 7 parameters, 8 multiply-adds (1,000 classes, 64x32)\n"
    Path("mine/model/wide.yaml").write_text(f"{line}_target_: mine.Net\n")
    *_, mine, wide = rows(densenet_model, *words)
    assert list(mine.values()) == [  # facts: DenseNet-BC (22, 12)
        *("own", "71686", "31238322", "32", "32", "10", "Mine, of 22 layers")
    ]
    assert list(wide.values()) == ["wide", "7", "8", "64", "32", "1000", "Wide"]
    out = densenet_model("list", *words)[1]
    assert out.index(" own ") < out.index("for images of 224x224") < out.index("for images of 64x32")


def test_an_own_network_that_cannot_be_built_is_named(densenet_model):
    status, _, message = densenet_model("list", *own("_target_: mine.Net\n"))
    assert status == 1
    assert message.startswith("densenet-model: model=own: cannot be counted: model._target_=mine.Net: ")
    assert len(message.splitlines()) == 1


def test_summary_takes_own_networks(densenet_model):
    words = own("defaults: [densenet_bc, _self_]\ndepth: 22\n")
    status, out, message = densenet_model("summary", "model=own", *words)
    assert status == 0, message
    assert "71,686 parameters" in out


def test_the_list_needs_neither_torch_nor_matplotlib(tmp_path):
    for name in ("torch", "matplotlib", "lightning", "timm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__name__} is imported')")
    code = "from densenet_cli.commands import densenet_model; densenet_model()"
    answer = subprocess.run(
        [sys.executable, "-c", code, "list"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "densenet_bc_100" in answer.stdout
