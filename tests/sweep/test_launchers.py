"""Several runs at once: with our own workers, and with Hydra's launcher plugins."""

import json
import os

import pytest
from omegaconf import OmegaConf
from tiny_run import TINY

from densenet_cli.options import OptionError
from densenet_cli.sweep import slots

SWEEP = ["--multirun", *TINY, "epochs=1", "model.growth_rate=4,6,8", "sweep.name=mine"]


def _launcher(**options):
    return OmegaConf.create({"hydra": {"launcher": {"kind": "parallel", **options}}})


def test_workers_share_the_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    monkeypatch.delenv("OMP_NUM_THREADS")
    one, two = slots.worker_places(_launcher(jobs=2), [{"accelerator": "cpu"}], tmp_path)
    assert (one.cores, two.cores) == ({0, 1}, {2, 3})
    assert one.environment == {"OMP_NUM_THREADS": "2"}
    assert one.log != two.log
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # set by the user
    one, _ = slots.worker_places(_launcher(jobs=2), [{"accelerator": "cpu"}], tmp_path)
    assert one.environment == {"OMP_NUM_THREADS": "1"}
    with pytest.raises(OptionError, match=r"hydra.launcher.jobs=6: there are 5 cores"):
        slots.worker_places(_launcher(jobs=6), [{"accelerator": "cpu"}], tmp_path)


def test_a_single_core_has_one_worker(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    (only,) = slots.worker_places(_launcher(jobs=None), [{"accelerator": "cpu"}], tmp_path)
    assert only.cores == {3}
    with pytest.raises(OptionError, match=r"hydra.launcher.jobs=2: there are 1 cores"):
        slots.worker_places(_launcher(jobs=2), [{"accelerator": "cpu"}], tmp_path)


def test_each_worker_has_its_own_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(slots, "_gpus", lambda: ["3", "5"])
    trainer = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    found = slots.worker_places(_launcher(jobs=None), [trainer], tmp_path)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in found] == ["3", "5"]
    with pytest.raises(OptionError, match="there are 2 GPUs"):
        slots.worker_places(_launcher(jobs=3), [trainer], tmp_path)
    with pytest.raises(OptionError, match=r"trainer\.devices=2"):
        slots.worker_places(_launcher(jobs=2), [{**trainer, "devices": 2}], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["parallel", "joblib", "submitit_local"])
def test_runs_are_made_at_the_same_time_and_skipped_the_next_time(launcher, command, tmp_path):
    answer = command(*SWEEP, f"hydra/launcher={launcher}")
    assert answer.returncode == 0, answer.stderr
    assert "3 runs: 3 done" in answer.stdout
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/mine/*/run.json")]
    assert sorted(record["config"]["model"]["growth_rate"] for record in records) == [4, 6, 8]
    assert len({record["pid"] for record in records}) >= 2
    again = command(*SWEEP, f"hydra/launcher={launcher}")
    assert again.returncode == 0, again.stderr
    assert "3 runs: 3 done before" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_run_that_fails_with_a_plugin_is_reported(launcher, command):
    answer = command(*SWEEP, f"hydra/launcher={launcher}", "model.depth=10,11")
    assert answer.returncode == 1
    assert "6 runs: 3 done, 3 failed" in answer.stdout
    assert answer.stdout.count("failed: model.depth=11: ") == 1  # printed once for all three


def test_a_launcher_that_cannot_launch_is_one_message(typed, tmp_path):
    status, message = typed(*SWEEP, "hydra/launcher=submitit_slurm")
    assert status == 1
    assert message.splitlines()[-1].startswith("densenet-run: hydra/launcher (SlurmLauncher): ")
    assert "Traceback" not in message


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_over_30_runs(command, tmp_path):
    answer = command("--multirun", *TINY, "epochs=1", "seeds=30", "sweep.name=mine")
    assert "30 runs: 30 done" in answer.stdout, answer.stderr
    records = [
        json.loads((tmp_path / f"outputs/mine/seed={seed}/run.json").read_text()) for seed in range(30)
    ]
    assert len({record["pid"] for record in records}) == 1
    fifth, last = (records[number]["peak_memory_bytes"] / 2**20 for number in (4, 29))
    print(f"peak memory of run 5: {fifth:.0f} MiB, of run 30: {last:.0f} MiB")
    assert last < 1.05 * fifth
