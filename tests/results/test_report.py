"""The report is one page with all records. Their text is never markup, and the page loads nothing."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from example_record import RESNET, fields, write

from densenet_cli.plain_text import printable
from densenet_cli.results import plots, report
from densenet_cli.results.baseline import find, judge
from densenet_cli.results.records import read_runs
from densenet_cli.results.settings import settings

EVIL = "<script>alert(1)</script><img src=//example.org/x onerror=alert(2)>\"'&"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements of a page: names, attributes, and the text of the table's cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def _page(folder="runs", baseline=None):
    runs, unreadable = read_runs([Path(folder)])
    found = settings(runs)
    judged = judge(found, find(found, baseline)) if baseline else None
    path = report.write(found, runs, unreadable, Path("report.html"), judged)
    assert path == Path("report.html")
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def _sweep():
    for seed, error in enumerate((4.4, 4.6, 5.0)):
        write(Path("runs", f"a{seed}"), error, seed=seed)
        write(Path("runs", f"b{seed}"), 9.5 + seed, seed=seed, model__depth=40, parameters=176_122)
        table = "epoch,test_error,train_loss\n1,60.0,2.0\n2,5.0,0.5\n"
        Path("runs", f"a{seed}", "metrics.csv").write_text(table)
    write(Path("runs/c"), 10.25, model=RESNET, parameters=1_727_962, device="a CPU")
    write(Path("runs/d"), 1.0, seed=7, state="failed", error="OSError: no space left", epoch=12)
    Path("runs/e").mkdir()
    Path("runs/e/run.json").write_text('{"format": 1, "state": "do')


@pytest.mark.usefixtures("_sweep")
def test_everything_is_on_the_page():
    page = _page()
    words = " ".join(page.text.split())
    assert "Test error on C10+" in words
    assert "3 settings of DenseNet-BC and ResNet. 7 of 8 runs finished; 80 hours" in words
    assert "4.67 ± 0.31" in words  # 4.4, 4.6, 5.0: 14/3 and the root of 42/225/2
    assert "OSError: no space left" in words
    assert "12 of 300" in words
    assert "runs/e/run.json" in words
    assert "growth_rate: 12" in words  # the configuration, as YAML
    assert "torch 2.14.1" in words
    assert "0123456789abcdef0123456789abcdef01234567" in words
    assert len(page.all("figure")) == 5  # there is no grid of k and θ


@pytest.mark.usefixtures("_sweep")
def test_runs_are_compared_with_published_errors_of_the_same_protocol():
    words = " ".join(_page().text.split())
    assert "Published: 4.51 %" in words
    assert "ours differs by +0.16" in words
    assert "No published error to compare with: " in words


@pytest.mark.usefixtures("_sweep")
def test_it_is_one_file():
    page = _page()
    addresses = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "xlink:href", "srcset", "action", "data")
        if attributes.get(name)
    ]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    text = Path("report.html").read_text()
    assert not re.search(r"@import|url\((?!#)", text)


@pytest.mark.usefixtures("_sweep")
def test_ids_are_unique_and_found():
    page = _page()
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    text = Path("report.html").read_text()
    named = re.findall(r'(?:href="#|aria-controls="|aria-labelledby="|url\(#)([^")]+)', text)
    assert named
    assert set(named) <= set(ids)


@pytest.mark.usefixtures("_sweep")
def test_figures_take_the_colours_of_the_page():
    _page()
    text = Path("report.html").read_text()
    drawings = text[text.index("<svg") : text.rindex("</svg>")]
    used = set(re.findall(r"var\(--(\w+)\)", drawings))
    assert {"ink", "grey", "blue", "vermilion"} <= used
    assert used <= set(re.findall(r"--(\w+): light-dark", text))
    assert "#1d1d21" not in drawings


def test_text_of_a_record_is_shown_and_is_never_markup():
    write(Path("runs/a"), 4.5, host=EVIL, git=EVIL, device=EVIL, overrides=[EVIL], seed=1)
    write(Path("runs/b"), 4.5, state="failed", error=EVIL, versions={EVIL: EVIL})
    write(Path("runs/c"), 4.5, model={"_target_": EVIL, "name": EVIL}, precision=EVIL)
    write(Path("runs", "<script>alert(3)<"), 4.5, data={"name": EVIL}, data___target_=EVIL)
    page = _page()
    assert EVIL in page.text
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not any(name.startswith("on") for _, found in page.elements for name in found)


def test_control_characters_are_shown_as_escapes_and_figures_stay_xml():
    odd = "a\x1b[31m\x00\ud800\ufffe--$\\frac{"
    for seed in (0, 1):
        data = {**fields()["data"], "name": odd}
        options = {"data": data, "data___target_": "x.Images", "device": odd, "host": odd}
        write(Path("runs", str(seed)), 4.5, seed=seed, model={"_target_": f"x.{odd}"}, **options)
    page = _page()
    assert printable(odd) in page.text
    text = Path("report.html").read_text(encoding="utf-8")
    assert not re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
    for path in plots.write(settings(read_runs([Path("runs")])[0]), [], Path("out"), ["svg"]):
        if path.suffix == ".svg":
            ElementTree.parse(path)


def test_columns_are_sorted_by_numbers_not_by_what_is_shown():
    write(Path("runs/a"), 9.5)
    write(Path("runs/b"), 10.5, model=RESNET, parameters=1_727_962)
    write(Path("runs/c"), 3.0, model__depth=40, state="failed")
    page = _page()
    keys = [found["data-key"] for name, found in page.elements if "data-key" in found and name == "td"]
    assert {"9.5", "10.5", "769162.0", "1727962.0", ""} <= set(keys)


def test_a_page_of_failed_runs_only_is_written():
    write(Path("runs/a"), 4.5, state="failed", error="OSError: no space left")
    page = _page()
    assert "0 of 1 run finished" in page.text
    assert "OSError: no space left" in page.text
    assert not page.all("figure")


def test_a_pruned_run_is_listed_and_in_no_mean():
    write(Path("runs/a"), 4.5, seed=0)
    write(Path("runs/b"), seed=1, state="pruned", epoch=7, results={})
    page = _page()
    assert "1 of 2 runs finished" in page.text
    assert "7 of 300" in page.text
    assert "its search ended it early" in page.text


# What a reader does, and what the page then looks like.
READER = """
const heading = (text) => [...document.querySelectorAll(".sortable > thead button")]
  .find((button) => button.textContent === text);
const column = (n) => [...document.querySelectorAll(".sortable > tbody")]
  .map((body) => body.rows[0].cells[n].textContent);
const seen = {};
const error = heading("error %");
const at = error.closest("th").cellIndex;
error.focus();
seen.focus = document.activeElement === error;
error.click();
seen.up = column(at);
seen.up_said = error.closest("th").getAttribute("aria-sort");
error.click();
seen.down = column(at);
seen.down_said = error.closest("th").getAttribute("aria-sort");
heading("network").click();
seen.networks = column(0);
seen.error_said = error.closest("th").getAttribute("aria-sort");
const opener = document.querySelector(".opener");
const detail = document.getElementById(opener.getAttribute("aria-controls"));
seen.closed = getComputedStyle(detail).display;
opener.click();
seen.opened = [getComputedStyle(detail).display, opener.getAttribute("aria-expanded")];
const ground = () => getComputedStyle(document.body).backgroundColor;
const theme = document.getElementById("theme");
theme.click();
seen.light = [theme.textContent, ground()];
theme.click();
seen.dark = [theme.textContent, ground()];
seen.ink = getComputedStyle(document.querySelector("svg text, svg g[id*=text_] g")).fill;
seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
document.title = JSON.stringify(seen);
console.log("the reader has finished");
"""
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
]


def _browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.mark.slow
@pytest.mark.skipif(_browser() is None, reason="no Chromium on the path")
@pytest.mark.usefixtures("_sweep")
def test_a_reader_can_sort_open_and_darken_it_in_a_browser(tmp_path):
    _page()
    text = Path("report.html").read_text()
    # The page allows its own script alone; the reader's is let in beside it.
    text = re.sub(r"script-src '[^']*'", r"\g<0> 'nonce-reader'", text, count=1)
    text = text.replace("</body>", f'<script nonce="reader">{READER}</script></body>')
    Path("read.html").write_text(text)
    command = [_browser(), *SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"]
    address = (tmp_path / "read.html").as_uri()
    done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert len(console) == 1, console
    assert "the reader has finished" in console[0]
    seen = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1]))
    assert seen["focus"]
    assert seen["up"] == ["4.67 ± 0.31", "10.25", "10.50 ± 1.00"]
    assert seen["down"] == ["10.50 ± 1.00", "10.25", "4.67 ± 0.31"]
    assert (seen["up_said"], seen["down_said"], seen["error_said"]) == ("ascending", "descending", None)
    assert [name.split()[0] for name in seen["networks"]] == [
        "DenseNet-BC",
        "DenseNet-BC",
        "ResNet-110",
    ]
    assert seen["networks"][0] == "DenseNet-BC (L=40, k=12)"
    assert seen["closed"] == "none"
    assert seen["opened"] == ["table-row", "true"]
    assert seen["light"] == ["light", "rgb(253, 253, 251)"]
    assert seen["dark"] == ["dark", "rgb(22, 24, 28)"]
    assert seen["ink"] == "rgb(232, 231, 227)"
    assert seen["requests"] == []


def test_a_baseline_adds_verdicts_and_a_figure():
    for seed, error in enumerate((4.4, 4.5, 4.6)):
        write(Path(f"runs/a{seed}"), error, seed=seed)
        write(Path(f"runs/b{seed}"), 2 + 1.1 * error, seed=seed, model=RESNET)
    page = _page(baseline="ResNet-110")
    for text in ("verdict", "better", "95 % interval", "Differences from the baseline"):
        assert text in page.text, text
    assert "verdict" not in _page().text
