"""Sweeps of every kind whose images are read by loader workers, processes that a run starts."""

import json

import pytest
from tiny_run import TINY_PHOTOS

WORDS = ["--multirun", *TINY_PHOTOS, "epochs=1", "sweep.name=mine"]
SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.trials=2", "data.validation=4"]
SEARCH += ["recipe.optimizer.lr=interval(0.01,0.1)"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["seed=0,1"], id="sweep"),
        pytest.param([*SEARCH, "hydra/launcher=parallel", "hydra.launcher.jobs=1"], id="search"),
        pytest.param(["seed=0,1", "hydra/launcher=parallel"], id="parallel", marks=pytest.mark.slow),
        pytest.param(["seed=0,1", "hydra/launcher=joblib"], id="joblib", marks=pytest.mark.slow),
        pytest.param(
            ["seed=0,1", "hydra/launcher=submitit_local"], id="submitit", marks=pytest.mark.slow
        ),
        pytest.param(["seed=0,1", "trainer=ddp_cpu"], id="ddp", marks=pytest.mark.slow),
    ],
)
def test_loader_workers_read_the_images_of_a_sweep(words, command, tmp_path):
    answer = command(*WORDS, *words)
    assert answer.returncode == 0, answer.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/mine/*/run.json")]
    assert [record["state"] for record in records] == ["done", "done"]
    assert all(record["config"]["data"]["num_workers"] == 2 for record in records)
