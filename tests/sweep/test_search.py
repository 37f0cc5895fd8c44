"""hydra/sweeper=optuna: what is searched, and how a killed search is resumed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock, Timeout
from tiny_run import TINY

from densenet_cli.config.compose import composing
from densenet_cli.options import OptionError
from densenet_cli.sweep import grid

optuna = pytest.importorskip("optuna")

SEARCH = [
    "--multirun",
    "hydra/sweeper=optuna",
    "hydra.sweeper.trials=4",
    *TINY,
    "data.validation=200",
    "model.growth_rate=range(4,9,2)",
    "model.compression=0.5,1.0",
    "recipe.optimizer.lr=tag(log,interval(0.01,1))",
    "sweep.name=mine",
]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("k=12,24", optuna.distributions.CategoricalDistribution(("12", "24"))),
        ("k=choice(a,b)", optuna.distributions.CategoricalDistribution(("a", "b"))),
        ("k=range(12,41,4)", optuna.distributions.IntDistribution(12, 40, step=4)),
        ("k=range(12,24,5)", optuna.distributions.IntDistribution(12, 22, step=5)),
        ("k=int(interval(1,9))", optuna.distributions.IntDistribution(1, 9)),
        ("k=interval(0.1,1)", optuna.distributions.FloatDistribution(0.1, 1.0)),
        ("k=tag(log,interval(0.1,1))", optuna.distributions.FloatDistribution(0.1, 1.0, log=True)),
    ],
)
def test_an_override_describes_what_is_searched(word, expected):
    from densenet_cli.sweep.search import distribution

    with composing():
        (override,) = grid.parse([word])
    assert distribution(override) == expected


@pytest.mark.parametrize("test_images", [True, False])
def test_a_search_can_use_the_validation_images_of_a_folder(test_images):
    from densenet_cli.sweep.jobs import sweep_options
    from densenet_cli.sweep.search import Search

    for split in ["train", "val", "test"] if test_images else ["train", "val"]:
        for name in ("cat", "dog"):
            Path("photos", split, name).mkdir(parents=True)
    words = [*SEARCH[1:], "data=image_folder", "data.root=photos", "data.validation=0"]
    with composing():
        cfg, typed = sweep_options(words)
        if test_images:
            assert Search(cfg, typed, []).study.trials == []
        else:  # the images of val/ are the test images, which must not choose
            with pytest.raises(
                OptionError, match=r"data\.validation=0: a search needs validation images"
            ):
                Search(cfg, typed, [])


@pytest.mark.slow
def test_a_search_on_a_folder_of_images_loads_no_unused_package():
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            Path("photos", split, name).mkdir(parents=True)
    words = [*SEARCH[1:], "data=image_folder", "data.root=photos", "data.validation=0"]
    code = f"""
import sys
from densenet_cli.config import resolvers
from densenet_cli.config.compose import composing
from densenet_cli.sweep.jobs import sweep_options
from densenet_cli.sweep.search import Search
resolvers.register()
with composing():
    Search(*sweep_options({words}), [])
print(sorted({{"matplotlib", "scipy", "torchvision"}} & sys.modules.keys()))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout == "[]\n", answer.stderr


@pytest.mark.slow
def test_a_killed_search_is_resumed(command, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.commands.run", *SEARCH],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(tmp_path.glob("outputs/mine/*/metrics.csv"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = _records(tmp_path)
    assert sorted(record["state"] for record in before.values()) == ["done", "running"]
    answer = command(*SEARCH)
    assert answer.returncode == 0, answer.stderr
    after = _records(tmp_path)
    assert len(after) == 4
    assert {record["state"] for record in after.values()} == {"done"}
    (done,) = (name for name, record in before.items() if record["state"] == "done")
    assert after[done] == before[done]
    study = optuna.load_study(
        study_name="search", storage=f"sqlite:///{tmp_path}/outputs/mine/optuna.db"
    )
    told = {round(trial.params["recipe.optimizer.lr"], 12): trial.value for trial in study.trials}
    for record in after.values():
        rate = round(record["config"]["recipe"]["optimizer"]["lr"], 12)
        assert told.pop(rate) == record["results"]["validation_error_last"]
    assert not told
    best = min(record["results"]["validation_error_last"] for record in after.values())
    assert f"validation error: {best:.2f} %" in answer.stdout
    table = answer.stdout[: answer.stdout.index("4 runs:")]
    assert "validation error" in table
    assert f"{best:.2f} %" in table  # the error by which the search chooses


@pytest.mark.slow
def test_two_processes_share_a_search(tmp_path):
    words = [sys.executable, "-m", "densenet_cli.commands.run", *SEARCH]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(words, cwd=tmp_path, **options) for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = _records(tmp_path)
    assert len(found) == 4
    assert {record["state"] for record in found.values()} == {"done"}


def test_no_two_processes_tell_the_study_at_once(typed, monkeypatch):
    """Optuna refuses the second of two processes that tell it the same trial."""
    tell, told = optuna.Study.tell, []

    def watched(study, *arguments, **options):
        with pytest.raises(Timeout):
            FileLock("outputs/mine/.lock").acquire(blocking=False)
        told.append(tell(study, *arguments, **options))
        return told[-1]

    monkeypatch.setattr(optuna.Study, "tell", watched)
    status, said = typed(*SEARCH, "hydra.sweeper.trials=1", "epochs=1")
    assert status == 0, said
    assert len(told) == 1


def _records(folder):
    paths = folder.glob("outputs/mine/*/run.json")
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


@pytest.mark.parametrize("kind", ["garbage", "pipe"])
def test_a_damaged_file_of_a_search_is_one_message(kind, typed):
    path = Path("outputs/mine/optuna.db")
    path.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("no database\n")
    status, message = typed(*SEARCH)
    assert status == 1
    assert message.startswith("densenet-run: outputs/mine/optuna.db cannot be read")
    assert message.count("\n") == 1


def test_a_grid_and_a_search_do_not_share_a_folder(typed):
    grid_only = [
        word for word in SEARCH if "optuna" not in word and "hydra" not in word and "lr=" not in word
    ]
    Path("outputs/mine").mkdir(parents=True)
    for is_search, words in ((False, SEARCH), (True, grid_only)):
        content = {"commands": [["seed=0"]], "jobs": [], "search": is_search}
        Path("outputs/mine/sweep.yaml").write_text(yaml.safe_dump(content))
        status, message = typed(*words)
        assert status == 1
        assert "outputs/mine: a grid and a search cannot share a folder" in message
    assert not Path("outputs/mine/optuna.db").exists()
