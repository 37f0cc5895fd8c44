"""densenet-run --multirun as a user types it: runs are skipped, resumed, shared and shown."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from tiny_run import TINY

from densenet_cli.config.compose import composing
from densenet_cli.sweep import jobs

DIES = "model._target_=dying_network.Network"
NETWORK = """
from densenet_cli.models.densenet import DenseNet

class Network(DenseNet):
    def __init__(self, dies=False, **options):
        super().__init__(**options)
        self.dies = dies

    def forward(self, images):
        if self.dies and self.training:
            raise RuntimeError("has had enough")
        return super().forward(images)
"""


@pytest.fixture
def sweep(command, tmp_path):
    """Run densenet-run --multirun with tiny networks: exit status, output, records by folder."""
    (tmp_path / "dying_network.py").write_text(NETWORK)

    def run(*words, flags=("--multirun",), tiny=True):
        said = command(*flags, *(TINY if tiny else ()), *words, PYTHONPATH=str(tmp_path))
        assert "Traceback" not in said.stderr
        return said.returncode, said.stdout + said.stderr, _records(tmp_path / "outputs")

    return run


def _records(outputs):
    return {path.parent.name: json.loads(path.read_text()) for path in outputs.glob("*/*/run.json")}


def _weights(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_each_run_of_a_sweep_is_equal_to_the_same_run_alone(sweep, command, tmp_path):
    status, said, records = sweep("model.growth_rate=4,6", "seeds=2", "sweep.name=mine")
    assert status == 0, said
    assert set(records) == {f"growth_rate={k},seed={seed}" for k in (4, 6) for seed in (0, 1)}
    assert {record["state"] for record in records.values()} == {"done"}
    assert "4 runs: 4 done" in said
    for name in (
        "growth_rate=4,seed=0",
        "growth_rate=6,seed=1",
    ):  # the first run of the process, and the last
        words = [word.replace("growth_rate", "model.growth_rate") for word in name.split(",")]
        alone = f"outputs/alone-{records[name]['seed']}"
        answer = command(*TINY, *words, f"hydra.run.dir={alone}")
        assert answer.returncode == 0, answer.stderr
        weights = _weights(tmp_path / "outputs/mine" / name)
        for key, value in _weights(tmp_path / alone).items():
            assert torch.equal(value, weights[key]), key


def test_a_wider_grid_runs_only_what_is_new_and_overwrites_nothing(sweep, tmp_path):
    words = ["model.growth_rate=4,6", "epochs=1", "sweep.name=mine"]
    _, _, before = sweep(*words)
    status, said, after = sweep("model.growth_rate=4,6,8", *words[1:], "model.compression=0.5")
    assert status == 0, said
    assert "2 done before" in said
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"growth_rate=8"}
    status, said, last = sweep("model.growth_rate=4", "epochs=2", "sweep.name=mine")
    assert status == 0, said
    assert {name: last[name] for name in after} == after
    (name,) = set(last) - set(after)
    assert last[name]["config"]["epochs"] == 2


def test_a_killed_sweep_is_completed_by_the_same_command(sweep, tmp_path):
    """Two runs fail, one is done, and one is killed by kill -9."""
    words = [DIES, "+model.dies=true,false", "model.growth_rate=4,6", "epochs=6", "sweep.name=mine"]
    words += ["checkpoint_minutes=0.0001"]
    process = subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.commands.run", "--multirun", *TINY, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = tmp_path / "outputs/mine/growth_rate=6,dies=false/metrics.csv"
    while not last.exists():
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _records(tmp_path / "outputs")
    states = {name: record["state"] for name, record in before.items()}
    assert states == {
        "growth_rate=4,dies=true": "failed",
        "growth_rate=6,dies=true": "failed",
        "growth_rate=4,dies=false": "done",
        "growth_rate=6,dies=false": "running",
    }
    status, said, after = sweep(*words)
    assert status == 1
    done = "growth_rate=4,dies=false"
    assert after[done] == before[done]
    broken = after["growth_rate=6,dies=false"]
    assert (broken["state"], broken["resumed"]) == ("done", 1)
    folder = tmp_path / "outputs/mine/growth_rate=6,dies=false"
    assert len((folder / "metrics.csv").read_text().splitlines()) == 7
    assert "has had enough" in after["growth_rate=4,dies=true"]["error"]
    assert "Traceback" in (tmp_path / "outputs/mine/growth_rate=4,dies=true/run.log").read_text()
    assert "4 runs: 1 done, 1 done before, 2 failed" in said
    assert (
        "growth_rate=4,dies=true growth_rate=6,dies=true failed: RuntimeError: has had enough" in said
    )
    plan = (tmp_path / "outputs/mine/sweep.yaml").read_text()
    status, said, _ = sweep("resume=outputs/mine", flags=(), tiny=False)
    assert status == 1
    assert "type trust=dying_network.Network" in said
    status, said, _ = sweep("resume=outputs/mine", "trust=dying_network", flags=(), tiny=False)
    assert status == 1
    assert "4 runs: 2 done before, 2 failed" in said
    assert (tmp_path / "outputs/mine/sweep.yaml").read_text() == plan


def test_fail_fast_stops_at_the_first_failure(sweep):
    status, said, records = sweep(DIES, "+model.dies=true,false", "sweep.fail_fast=true")
    assert status == 1
    assert [record["state"] for record in records.values()] == ["failed"]
    assert "1 failed, 1 not run" in said


@pytest.mark.slow
def test_a_run_resumed_with_another_precision_still_belongs_to_the_sweep(sweep, typed, tmp_path):
    words = ["model.growth_rate=4,6", "epochs=1", "trainer.precision=32-true", "sweep.name=mine"]
    assert sweep(*words)[0] == 0
    path = tmp_path / "outputs/mine/growth_rate=4/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "interrupted"}))
    assert typed("resume=outputs/mine/growth_rate=4", "trainer.precision=bf16-mixed")[0] == 0
    status, said, records = sweep(*words)
    assert status == 0, said
    assert len(records) == 2
    assert "2 runs: 2 done before" in said


@pytest.mark.slow
def test_a_plan_reads_the_cost_of_finished_runs_from_their_records(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["model.growth_rate=4,6", "epochs=1", "sweep.name=mine"]
    assert sweep(*words)[0] == 0
    for path in (tmp_path / "outputs/mine").glob("*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 3700.0}))
    status, said, _ = sweep(*words, "plan=true")
    assert status == 0, said
    assert said.count("done") == 3
    assert "1:01:40 h" in said
    assert "one run after another: 2:03:20 h in total, 0.0 s left" in said
    assert "estimated" not in said
    assert not list((tmp_path / "cache").rglob("measured_steps.json"))


@pytest.mark.slow
def test_a_plan_shows_what_is_done_and_what_is_left_and_trains_nothing(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["model.growth_rate=4,6", "epochs=1", "sweep.name=mine"]
    assert sweep(*words)[0] == 0
    words = ["model.growth_rate=4,8", *words[1:], "model.compression=0.5,1.5", "plan=true"]
    status, said, records = sweep(*words)
    assert status == 1  # θ = 1.5 cannot run
    assert len(records) == 2
    rows = {
        line.split()[0]: line for line in said.splitlines() if line.strip().startswith("growth_rate=")
    }
    assert "done" in rows["growth_rate=4"]
    assert "0.0 s" in rows["growth_rate=4"]
    assert "to do" in rows["growth_rate=8,compression=0.5"]
    assert "cannot run" in rows["growth_rate=8,compression=1.5"]
    assert "4 runs in outputs/mine, 1 done" in said


def test_two_processes_share_a_sweep(tmp_path):
    words = ["--multirun", *TINY, "model.growth_rate=4,6,8,10", "epochs=4", "sweep.name=mine"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "densenet_cli.commands.run", *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    records = _records(tmp_path / "outputs")
    assert {record["state"] for record in records.values()} == {"done"}
    assert len(records) == 4
    assert all("resumed" not in record for record in records.values())
    assert sum(text.count("training DenseNet, ") for text in said) == 4
    assert all("4 runs: " in text and "failed" not in text for text in said)


def test_options_of_a_swept_choice_are_checked_against_that_choice():
    """model.shortcut is unknown to the default model, but known to both that are swept."""
    with composing():
        sweep = jobs.compose_sweep(["model=resnet_20,resnet_32", "model.shortcut=B"])
    assert [(job.config["model"]["depth"], job.config["model"]["shortcut"]) for job in sweep.jobs] == [
        (20, "B"),
        (32, "B"),
    ]
    assert [job.folder.as_posix() for job in sweep.jobs] == [
        "outputs/cifar10-shortcut=B/model=resnet_20",
        "outputs/cifar10-shortcut=B/model=resnet_32",
    ]


@pytest.fixture
def experiments(tmp_path):
    """Experiments of the user: three whose files describe a grid, and one that does not."""
    (tmp_path / "mine/experiment").mkdir(parents=True)
    for name, text in {
        "a": "hydra: {sweeper: {params: {model.depth: '22,40', seed: '0,1'}}}",
        "b": "hydra: {sweeper: {params: {model.growth_rate: '4,6'}}}\nepochs: 7",
        "c": "epochs: 8",
        "d": "sweep: {jobs: ['seed=1', 'seed=2 epochs=4']}",
    }.items():
        (tmp_path / f"mine/experiment/{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    return "mine"


@pytest.mark.parametrize(
    "typed",
    [
        "experiment=a,b,c,d",
        pytest.param("experiment=choice(a,b,c,d)", marks=pytest.mark.slow),
    ],
)
def test_each_of_several_experiments_has_the_grid_of_its_file(typed, experiments):
    with composing(experiments) as own:
        sweep = jobs.compose_sweep([*own, typed, "model.compression=0.5,1.0", "seed=5"])
        alone = [jobs.compose_sweep([*own, f"experiment={name}", "seed=5"]) for name in "abcd"]
    found = [sorted(job.folder.name.split(",")) for job in sweep.jobs]
    both = ("compression=0.5", "compression=1.0")
    assert found[:4] == [[one, f"depth={n}", "experiment=a"] for n in (22, 40) for one in both]
    assert found[4:8] == [[one, "experiment=b", f"growth_rate={k}"] for k in (4, 6) for one in both]
    assert [job.config["epochs"] for job in sweep.jobs[8:]] == [8, 8, 300, 300, 4, 4]
    assert [len(one.jobs) for one in alone] == [2, 2, 1, 2]


def test_a_list_of_experiments_is_one_experiment_with_their_grids(experiments):
    with composing(experiments) as own:
        sweep = jobs.compose_sweep([*own, "experiment=[a,c]"])
    assert [
        (job.config["model"]["depth"], job.config["epochs"], job.config["seed"]) for job in sweep.jobs
    ] == [(depth, 8, seed) for depth in (22, 40) for seed in (0, 1)]


def test_a_search_refuses_several_experiments_with_grids(experiments, typed):
    words = ["--multirun", f"--config-dir={experiments}", "hydra/sweeper=optuna", "data.validation=99"]
    status, message = typed(*words, "data=digits", "experiment=a,b")
    assert status == 1
    assert "search each experiment by a command of its own" in message


def test_a_user_can_write_a_sweep_into_a_file(tmp_path):
    (tmp_path / "mine/sweep").mkdir(parents=True)
    (tmp_path / "mine/sweep/own.yaml").write_text(
        "name: own\njobs: [model=resnet_20 epochs=3, 'model=densenet_bc model.depth=16,22 epochs=3']\n"
    )
    with composing("mine") as own:
        sweep = jobs.compose_sweep([*own, "sweep=own", "epochs=5", "seed=0,1"])
    assert [job.folder.as_posix() for job in sweep.jobs][2:4] == [
        "outputs/own/model=densenet_bc,depth=16,seed=0",
        "outputs/own/model=densenet_bc,depth=16,seed=1",
    ]
    assert {job.config["epochs"] for job in sweep.jobs} == {5}
    assert len(sweep.jobs) == 6


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["model=resnet_20,resnet_21"], "model=resnet_21: there is no such choice; did you mean"),
        (["model=resnet_20", "model.growth_rate=12,24"], "there is no such option"),
        (["hydra.run.dir=x", "seed=0,1"], "sweep.name="),
        (["sweep=paper_tabel2_c10"], "there is no such choice"),
        (["seeds=0"], "seeds=0: must be a whole number"),
        (["sweep.fail_fast=perhaps", "seed=0,1"], "must be true or false"),
        (["hydra/launcher=parallel", "hydra.launcher.jobs=99999"], "cores"),
        (["hydra/sweeper=optuna"], "nothing to search"),
        (["hydra/sweeper=optuna", "model.growth_rate=4,6"], "data.validation=5000"),
        (["hydra/sweeper=optuna", "model.growth_rate=4,6", "seeds=3"], "seeds=3: is for grids"),
        (["hydra/sweeper=optuna", "seed=0,1", "sweep=small_figure4"], "sweep.jobs="),
        (["sweep.jobs=5"], "must be a list"),
        (["sweep.name=../elsewhere", "seed=0,1"], "below outputs/"),
        (["plan=maybe"], "plan=maybe: must be true or false"),
    ],
)
def test_a_wrong_override_stops_a_sweep_before_it_begins(words, part, typed, tmp_path):
    tiny = [word for word in TINY if not word.startswith("model.")]
    status, message = typed("--multirun", *tiny, *words)
    assert status == 1
    assert part in message
    assert message.startswith("densenet-run: ")
    assert not list((tmp_path / "outputs").glob("*/*/run.json"))
