"""The table: its columns, the order of its rows, its notes and its formats."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from example_record import RESNET, fields
from rich.console import Console

from densenet_cli.options import UserError
from densenet_cli.results import formats
from densenet_cli.results.baseline import judge
from densenet_cli.results.records import Run
from densenet_cli.results.settings import settings
from densenet_cli.results.table import rows, table


def run(test_error=None, /, **options):
    return Run(Path("outputs/run"), fields(test_error, **options))


def shown(*runs, **options):
    return table(rows(settings(runs), **options))


def column(found, heading):
    index = found.headings.index(heading)
    return [cells[index] for cells in found.rows]


def test_one_row_per_setting_with_mean_deviation_and_n():
    found = shown(run(4.4, seed=0), run(4.5, seed=1), run(4.9, seed=2))
    assert found.headings == [
        "network", "data", "error %", "n", "best %",
        "parameters", "multiply-adds", "time", "images/s", "memory",
    ]  # fmt: skip
    assert found.rows == [
        ["DenseNet-BC (L=100, k=12)", "C10+", "4.60 ± 0.26", "3", "4.40 ± 0.26 †", "769k", "288M",
         "10:00:00 h", "441", "2.82 GB"],
    ]  # fmt: skip
    assert found.notes == [
        "error: test error of the last epoch; mean ± sample standard deviation over n seeds.",
        "† lowest test error of any epoch: chosen by the test images, so not to be reported.",
    ]


def test_what_training_cost_is_shown_if_a_run_has_a_budget():
    planned = {
        "planned": "1e15", "steps": 6030, "steps_per_epoch": 782, "epochs": 7.711,
        "multiply_adds": 10**15, "multiply_adds_per_step": 1.66e11, "seconds_per_step": None,
    }  # fmt: skip
    under = run(4.9, budget=planned, epochs=8, train_multiply_adds=9.9e14, train_seconds=50.0)
    under.config.update(budget=1e15, epochs=300)
    other = run(4.5, train_multiply_adds=1.3e16, train_seconds=700.0)
    found = shown(under, other)
    network = "DenseNet-BC (L=100, k=12)"
    titles = [f"{network}, 300 epochs", f"{network}, budget 1e15 multiply-adds"]
    assert column(found, "network") == titles
    assert column(found, "epochs") == ["300", "7.711"]
    assert column(found, "trained with") == ["13P", "990T"]
    assert column(found, "trained for") == ["11:40 min", "50.0 s"]
    reasons = [one.comparison.reason for one in rows(settings([under, other]), paper=True)]
    assert reasons == ["", "budget 1e15 multiply-adds"]
    assert not {"epochs", "trained with", "trained for"} & set(shown(other).headings)


def test_failed_and_unfinished_runs_are_shown_as_such():
    memory = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    found = shown(
        run(4.5, seed=0),
        run(99.0, seed=1, state="failed", error=memory),
        run(99.0, seed=2, state="failed", error="RuntimeError: " + "x" * 200 + "\nmore"),
        run(99.0, seed=3, state="interrupted"),
    )
    assert column(found, "error %") == ["4.50"]
    (text,) = column(found, "not averaged")
    assert text == "2 failed: RuntimeError: " + "x" * 45 + "…; out of memory; 1 interrupted"


def test_a_setting_without_a_finished_run_has_a_row_too():
    found = shown(run(4.5), run(model=RESNET, state="failed", error="UserError: no"))
    assert column(found, "n") == ["1", "0"]
    assert column(found, "error %") == ["4.50", ""]


def test_the_error_of_the_last_epoch_is_shown_if_validation_chose_another():
    record = fields(4.4, recipe__report="best")
    record["results"] |= {"test_error_last": 4.7, "best_on_test": False, "validation_error_best": 4.1}
    record["results"]["reported"] = "best"
    found = shown(Run(Path("run"), record))
    assert column(found, "last %") == ["4.70"]
    assert column(found, "validation %") == ["4.10"]
    assert column(found, "best %") == ["4.20"]
    assert found.notes == ["error: test error of the epoch with the lowest validation error."]


def test_top5_errors_only_of_many_classes():
    assert "top-5 %" not in shown(run()).headings
    record = fields()
    record["data"]["num_classes"] = 100
    assert column(shown(Run(Path("run"), record)), "top-5 %") == ["0.10"]


def test_a_note_says_what_cannot_be_compared():
    found = shown(run(4.5), run(4.6, seed=1, device="Xeon, 2 threads", device_type="cpu"))
    assert column(found, "memory") == ["2.82 GB ‡"]
    assert (
        "Time, images/s and memory cannot be compared: they were measured on different devices "
        "(NVIDIA H100; Xeon, 2 threads)." in found.notes
    )
    assert (
        "‡ memory of the whole process, on a CPU; on a GPU it is what the allocator held."
        in found.notes
    )


def test_a_note_says_what_grouped_rows_average_over():
    runs = [run(4.0), run(5.0, model__depth=40)]
    found = table(rows(settings(runs, ["model.growth_rate"])))
    assert found.rows[0][:4] == ["k=12", "C10+", "4.50 ± 0.71", "2"]
    assert (
        found.notes[0]
        == "error: test error of the last epoch; mean ± sample standard deviation over n runs."
    )
    assert "Each row averages over different values of model.depth." in found.notes


def test_published_errors_are_shown_with_the_difference_or_a_reason():
    found = shown(run(4.6), run(5.3, epochs=5), paper=True)
    assert column(found, "published %") == ["4.51", ""]
    assert column(found, "ours − published") == ["+0.09", ""]
    assert "published: Huang et al. 2017, arXiv:1608.06993v5, table 2." in found.notes
    reason = "No published error for DenseNet-BC (L=100, k=12), 5 epochs: 5 epochs, the paper 300."
    assert reason in found.notes


def test_notes_say_what_else_differs_from_the_published_runs():
    found = shown(run(4.6, precision="bf16-mixed", data__verify=False), paper=True)
    assert "Not as published: computed in bf16-mixed, the paper's in 32 bits." in found.notes
    rounded = "Not as published: computed in TF32, the paper's in 32 bits."
    assert rounded in shown(run(4.6, tf32=True), paper=True).notes
    files = "Not as published: the files may be other than the official ones (data.verify=false)."
    assert files in found.notes


def test_a_note_names_the_rows_whose_batch_norm_saw_fewer_images():
    norm = "each batch norm's statistics are over 8 images, the paper's over 64"
    eight = run(4.8, processes=8)
    assert f"Not as published: {norm}." in shown(eight, paper=True).notes
    both = shown(eight, run(4.0, model__depth=40, model__growth_rate=48), paper=True)
    assert f"Not as published: {norm} (DenseNet-BC (L=100, k=12))." in both.notes
    synchronised = run(4.8, processes=8, trainer__sync_batchnorm=True)
    assert not any("batch norm" in note for note in shown(synchronised, paper=True).notes)


def test_rows_are_ordered_as_in_papers_or_by_a_column():
    runs = [
        run(5.0, model=RESNET, parameters=1_700_000),
        run(3.0, parameters=27_000_000, model__growth_rate=24),
        run(4.0, parameters=770_000),
        run(model__depth=40, state="failed", parameters=170_000),
    ]
    ours = [
        "DenseNet-BC (L=100, k=12)",
        "DenseNet-BC (L=100, k=24)",
        "DenseNet-BC (L=40, k=12)",
        "ResNet-110",
    ]
    assert column(shown(*runs), "network") == ours
    by_error = [ours[1], ours[0], ours[3], ours[2]]
    assert column(shown(*runs, sort="error"), "network") == by_error
    falling = [ours[3], ours[0], ours[1], ours[2]]
    assert column(shown(*runs, sort="-error"), "network") == falling


def test_an_unknown_column_to_sort_by_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"--sort=-eror: must be one of .*; for example --sort=error"):
        shown(run(), sort="-eror")


def test_csv_has_all_numbers_in_columns_of_fixed_names():
    runs = [run(4.4, seed=0), run(4.9, seed=1), run(9.0, seed=2, state="failed")]
    other = run(6.0, model__growth_rate=24)
    first, second = csv.DictReader(io.StringIO(formats.as_csv(rows(settings([*runs, other])))))
    assert first["title"] == "DenseNet-BC (L=100, k=12)"
    assert (first["n"], first["not_averaged"], first["seeds"]) == ("2", "1", "0;1")
    assert float(first["error_percent_mean"]) == pytest.approx(4.65)
    assert float(first["error_percent_std"]) == pytest.approx(0.3535534)
    assert first["error_percent_runs"] == "4.4;4.9"
    assert first["parameters_runs"] == "769162;769162"
    assert first["validation_error_percent_mean"] == ""
    assert (first["model.growth_rate"], second["model.growth_rate"]) == ("12", "24")
    assert first["best_on_test"] == "True"


def test_json_has_every_run():
    failed = run(9.0, seed=1, state="failed", error="out of memory", seconds=float("nan"))
    (row,) = json.loads(formats.as_json(rows(settings([run(4.4), failed]), paper=True)))
    assert row["error_percent_mean"] == 4.4
    assert row["published_error_percent"] == 4.51
    assert row["difference_points"] == pytest.approx(-0.11)
    assert [(item["seed"], item["state"], item["reason"]) for item in row["runs"]] == [
        (0, "done", None),
        (1, "failed", "out of memory"),
    ]
    assert (row["runs"][0]["seconds"], row["runs"][1]["seconds"]) == (36000.0, None)


def test_markdown_is_ready_to_paste():
    hostile = run(4.4, model={"_target_": "x.A|B_*<b>"})
    lines = formats.as_markdown(shown(hostile)).splitlines()
    assert lines[1].startswith("| --- | --- | ---: | ---: |")
    assert lines[2].startswith("| A\\|B\\_\\*\\<b\\> | C10+ | 4.40 | 1 | 4.20 † |")


def test_latex_is_ready_to_paste():
    text = formats.as_latex(
        shown(run(4.4, model__compression=0.5), run(4.6, seed=1, model__compression=0.5))
    )
    assert text.startswith("\\begin{tabular}{llrrrrrrrr}\n\\toprule\nnetwork & data & error \\% & n")
    assert "C10+ & 4.50 $\\pm$ 0.14 & 2 & 4.30 $\\pm$ 0.14 \\dag{} & 769k" in text
    assert "\\bottomrule\n\\end{tabular}\n" in text
    hostile = formats.as_latex(shown(run(model={"_target_": "x.50%_$&{}\\~^"})))
    assert (
        "50\\%\\_\\$\\&\\{\\}\\textbackslash{}\\textasciitilde{}\\textasciicircum{} & C10+" in hostile
    )


def drawn(found, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(formats.as_rich(found, console))
    return console.export_text()


def test_a_narrow_terminal_omits_some_columns_and_names_them():
    found = shown(run(4.4), run(model=RESNET))
    assert "too narrow" not in drawn(found, 140)
    text = drawn(found, 80)
    assert "The terminal is too narrow for images/s, multiply-adds, memory." in text
    assert "images/s " not in text.splitlines()[1]
    for kept in ("DenseNet-BC", "ResNet-110", "4.40", "769k", "10:00:00 h"):
        assert kept in text


def test_nothing_in_a_record_takes_effect_on_the_terminal():
    text = drawn(shown(run(model={"_target_": "x.[red]Net[/red]\x1b[2J"})), 140)
    assert r"[red]Net[/red]\x1b[2J" in text
    assert "\x1b" not in text


def test_names_are_literal_in_markdown_and_latex():
    data = {**fields()["data"], "name": "[a]--*b*|$c$"}
    found = shown(run(4.5, data=data, data___target_="x.Images", data__augment=False))
    assert r" \[a\]--\*b\*\|\$c\$ |" in formats.as_markdown(found)
    assert r" & {[}a{]}-{}-{*}b{*}\textbar{}\$c\$ & " in formats.as_latex(found)


def test_a_row_of_latex_that_begins_with_a_bracket_gives_no_argument_to_the_row_before():
    text = formats.as_latex(
        shown(run(4.5, model={"_target_": "x.[2cm]"}), run(4.6, model={"_target_": "x.*"}))
    )
    assert not [line for line in text.splitlines() if line.startswith(("[", "*"))]


def test_json_and_csv_show_no_control_character():
    data = {**fields()["data"], "name": "\x9b31m\x1b[2J\x7f"}
    found = rows(settings([run(4.5, data=data, data___target_="x.Images", data__augment=False)]))
    for text in (formats.as_json(found), formats.as_csv(found)):
        assert not set("\x9b\x1b\x7f") & set(text)
    assert json.loads(formats.as_json(found))[0]["data"] == r"\x9b31m\x1b[2J\x7f"


def test_the_baseline_and_the_verdicts_are_columns_of_the_table():
    found = settings(
        [
            *[run(4.5 + seed / 10, seed=seed) for seed in range(3)],
            *[run(6.5 + seed / 9, seed=seed, model=RESNET) for seed in range(3)],
        ]
    )
    judged = judge(found, found[1])
    shown_rows = rows(found, judged=judged)
    texts = table(shown_rows, judged)
    assert column(texts, "ours − baseline") == ["−2.01", ""]
    assert column(texts, "95 % interval") == ["−2.04 to −1.98", ""]
    assert column(texts, "verdict") == ["better", "baseline"]
    assert any(note.startswith("95 % interval: covers the noise of training") for note in texts.notes)
    first, second = json.loads(formats.as_json(shown_rows))
    assert (first["verdict"], first["is_baseline"]) == ("better", False)
    assert first["from_baseline_points"] == pytest.approx(-2.011, abs=1e-3)
    assert (second["verdict"], second["is_baseline"]) == (None, True)
    assert [row.setting for row in rows(found, sort="-from_baseline", judged=judged)] == found
    assert not {"verdict", "95 % interval"} & set(shown(*found[0].runs).headings)
