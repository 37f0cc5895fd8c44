"""--format json and plan=json: one document of the shape that --help describes, and nothing else."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
from example_record import RESNET, fields, write
from json_shape import check
from tiny_run import TINY

from densenet_cli.commands import json_shapes, model_parser, results, results_parser
from densenet_cli.config.compose import composing
from densenet_cli.record.identity import setting
from densenet_cli.record.sweep_file import SweepFile, UntilDecided, write_sweep
from densenet_cli.sweep.jobs import compose_sweep

STUDY = ["--images", "6"]
RESULTS = {
    "table": ["runs"],
    "plot": ["runs", "--kind", "error_parameters,memory"],
    "report": ["runs"],
    "decide": ["runs", "--baseline", "ResNet-110", "--margin", "0.3"],
    "watch": ["runs"],
    "compare": ["runs/a", "runs/b"],
}
OF_RUNS = {  # the words after the run
    "predict": ["PHOTOS", "--top", "2"],
    "evaluate": ["PHOTOS"],
    "export": [],
    "reuse": STUDY,
    "lesions": [*STUDY, "--most", "1", "--draws", "1"],
    "gradients": STUDY,
    "maps": STUDY,
    "mistakes": [],
    "saliency": ["--images", "2"],
}


@pytest.fixture
def densenet_results(monkeypatch, capsys):
    """Run densenet-results within this process: exit status, standard output, messages."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["densenet-results", *map(str, words)])
        status = 0
        try:
            results.main()
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return (1, out, err + status) if isinstance(status, str) else (status, out, err)

    return run


@pytest.fixture
def runs():
    for name, options in {
        "a": {},
        "b": {"seed": 1},
        "c": {"model": RESNET, "state": "failed"},
        "d": {"model": RESNET},
    }.items():
        write(Path("runs", name), 4.5, error=None if name != "c" else "out of memory", **options)
        Path("runs", name, "metrics.csv").write_text("epoch,test_error,train_loss\n1,9.5,2\n2,4.5,1\n")
    Path("runs/broken").mkdir()
    Path("runs/broken/run.json").write_text("{")


@pytest.mark.parametrize("command", RESULTS)
def test_results_as_json_have_the_shape_described(command, runs, densenet_results):
    status, out, _ = densenet_results(command, *RESULTS[command], "--format", "json")
    assert status == 0
    document = json.loads(out)
    check(f"results {command}", document)
    assert not Path("figures").exists()  # json alone writes no figure
    if command == "compare":
        differing = {one["name"]: one["has_effect"] for one in document["configuration"]}
        assert differing == {"seed": True, "data.seed": True}
        assert document["same_setting"]
        assert [one["epoch"] for one in document["epochs"]] == [1, 2]
        (error,) = (one for one in document["results"] if one["name"] == "error_percent")
        assert error == {"name": "error_percent", "a": 4.5, "b": 4.5, "difference": 0.0}
    if command == "report":
        assert document["left_out"][0]["path"] == "runs/broken/run.json"
        assert Path(document["file"]).stat().st_size > 1000
    if command == "watch":
        states = {one["run"]: one["state"] for one in document["runs"]}
        done = dict.fromkeys("abd", "done")
        assert states == {**done, "c": "failed", "broken": "unreadable"}


def test_watch_tells_how_comparisons_stand(densenet_results):
    settings = {}
    for name, model in {"ours": {}, "theirs": {"model": RESNET}}.items():
        errors = (4.0, 4.1, 4.2) if name == "ours" else (9.02, 9.05, 9.23)
        for seed, error in enumerate(errors):
            folder = write(Path("runs", f"{name}{seed}"), error, seed=seed, **model)
        settings[name] = setting(json.loads((folder / "run.json").read_text())["config"])
    fixed = UntilDecided("theirs", settings, 0, [3, 5], level=0.05, margin=None)
    write_sweep(Path("runs"), SweepFile(until_decided=fixed))
    _, out, _ = densenet_results("watch", "runs", "--format", "json")
    document = json.loads(out)
    check("results watch", document)
    (found,) = document["comparisons"]
    assert (found["setting"], found["ended"], found["verdict"]) == ("ours", True, "better")
    assert found["difference_points"] == pytest.approx(-5.0)
    assert found["low_points"] < -5 < found["high_points"] < 0


def test_json_beside_other_formats_also_writes_the_figures(runs, densenet_results):
    words = ["plot", "runs", "--kind", "memory", "--format", "svg,json"]
    _, out, _ = densenet_results(*words)
    (figure,) = json.loads(out)["figures"]
    assert figure["files"] == ["figures/memory.svg", "figures/memory.csv"]
    assert all(Path(file).exists() for file in figure["files"])
    assert {"setting", "peak_memory_bytes_mean"} <= figure["points"][0].keys()


@pytest.mark.parametrize("command", OF_RUNS)
def test_of_a_trained_network(command, trained_run, densenet_model):
    folder, photos = trained_run
    words = [photos / "test" if word == "PHOTOS" else word for word in OF_RUNS[command]]
    if command in model_parser.STUDIES:
        words += ["--data-root", photos]
    form = "safetensors,json" if command == "export" else "json"
    status, out, message = densenet_model(command, folder, *words, "--format", form)
    assert status == 0, message
    document = json.loads(out)
    check(f"model {command}", document)
    assert not Path("figures").exists()
    if command in ("evaluate", "mistakes"):
        measured = document if command == "evaluate" else document["networks"][0]
        error = json.loads((folder / "run.json").read_text())["results"]["test_error"]
        assert measured["error_percent"] == pytest.approx(error, abs=0.01)
        assert sum(one["images"] for one in measured["classes"]) == measured["images"] == 21


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["summary", "model=densenet_bc", "model.depth=10", "model.growth_rate=4"],
        ["depth", "model=densenet_bc model.depth=10,16 model.growth_rate=4", "--images", "8"],
    ],
)
def test_of_networks_that_are_not_trained(words, densenet_model):
    status, out, message = densenet_model(*words, "--format", "json")
    assert status == 0, message
    document = json.loads(out)
    check(f"model {words[0]}", document)
    if words[0] == "summary":  # DenseNet-BC (L=10, k=4), counted by hand
        whole = document["layers"][0]
        assert (whole["parameters"], whole["multiply_adds"]) == (2666, 1242714)
    if words[0] == "depth":
        first, second = document["networks"]
        assert (first["factor_per_layer"], first["draws"]) == (None, 3)
        assert second["factor_per_layer"] > 0


def test_plan_json_is_one_document(command, tmp_path):
    words = [*TINY, "seed=0,1", "model.compression=0.5", "epochs=3"]
    with composing():
        sweep = compose_sweep(words)
    for job in sweep.jobs:
        job.folder.mkdir(parents=True)
        record = fields(4.5, config=job.config, seed=job.config["seed"], seconds=40.0)
        (job.folder / "run.json").write_text(json.dumps(record | {"identity": job.identity}))
    answer = command("--multirun", *words, "plan=json")
    assert answer.returncode == 0, answer.stderr
    plan = json.loads(answer.stdout)
    check("run plan=json", plan)
    assert [(one["state"], one["seconds"]) for one in plan["runs"]] == [("done", 40.0)] * 2
    assert (plan["seconds"], plan["seconds_left"], plan["at_most"]) == (80.0, 0, None)
    assert [one["folder"] for one in plan["runs"]] == [str(job.folder) for job in sweep.jobs]


@pytest.mark.slow
def test_plan_json_of_runs_to_do(command):
    answer = command(*TINY, "seeds=2", "epochs=3", "plan=json")
    assert answer.returncode == 0, answer.stderr
    plan = json.loads(answer.stdout)
    check("run plan=json", plan)
    assert [one["state"] for one in plan["runs"]] == ["to do", "to do"]
    assert plan["seconds_left"] == sum(one["seconds"] for one in plan["runs"]) > 0
    refused = command(*TINY, "seeds=2", "model.compression=7", "plan=json")
    assert refused.returncode == 1
    assert "model.compression=7" in json.loads(refused.stdout)["runs"][0]["reason"]


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["table", "nowhere"], 1, "nowhere: there is no such folder"),
        (["plot", "runs", "--kind", "history"], 1, "--kind=history: nothing to draw"),
        (["plot", "runs", "--kind", "no"], 1, "--kind=no: must be one of"),
        (["report", "empty"], 1, "empty: no runs found"),
        (["watch", "empty"], 1, "empty: no runs found"),
        (["compare", "runs/a", "empty"], 1, "empty contains no run"),
        (["table", "--no"], 2, "unrecognized arguments: --no"),
    ],
)
def test_what_cannot_be_done_leaves_standard_output_empty(words, status, part, runs, densenet_results):
    Path("empty").mkdir()
    found, out, message = densenet_results(*words, "--format", "json")
    assert (found, out) == (status, "")
    assert part in message


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["summary", "model=densenet_bd"], 1, "there is no such choice"),
        (["evaluate", "nowhere", "photos"], 1, "nowhere"),
        (["maps", "nowhere"], 1, "nowhere"),
        (["depth", "epochs=3"], 1, "only model and data matter"),
        (["export", "nowhere"], 2, "json: must be one of onnx, torch-export, safetensors"),
    ],
)
def test_neither_does_densenet_model(words, status, part, densenet_model):
    found, out, message = densenet_model(*words, "--format", "json")
    assert (found, out) == (status, "")
    assert part in message


def test_a_plan_that_cannot_be_made_leaves_standard_output_empty(command):
    answer = command("model=resnet_2,resnet_20", "--multirun", "plan=json")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("densenet-run: model=resnet_2: there is no such choice")


def test_every_command_has_a_shape_and_its_help_shows_it():
    commands = next(
        action.choices for action in model_parser.parser()._actions if action.dest == "command"
    )
    for name, parser in commands.items():
        assert json_shapes.described(f"model {name}") in parser.format_help()
    for name in RESULTS:
        with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
            results_parser.parser().parse_args([name, "--help"])
        assert json_shapes.described(f"results {name}") in shown.getvalue()
        assert "exit status: 0" in shown.getvalue()
