"""Several runs at once: with our own workers, and with Hydra's launcher plugins."""

import json
import os
import subprocess
from unittest import mock

import pytest
import torch
from omegaconf import OmegaConf
from tiny_run import TINY

from densenet_cli.options import OptionError
from densenet_cli.run import worker
from densenet_cli.run.supervisor import GPU_MEMORY, Place, Worker
from densenet_cli.sweep import launchers, slots
from densenet_cli.sweep.plan import plan

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


TRAINER = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}


def _places(monkeypatch, folder, jobs, *gpus, cores=8, memory=80 * 10**9):
    monkeypatch.setattr(slots, "_gpus", lambda: [slots.Gpu(gpu, memory) for gpu in gpus])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return slots.worker_places(_launcher(jobs=jobs), [TRAINER], folder)


def test_each_worker_has_its_own_gpu_and_a_share_of_the_cores(monkeypatch, tmp_path):
    one, two = _places(monkeypatch, tmp_path, None, "3", "5")
    assert one.environment == {"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "4"}
    assert two.environment["CUDA_VISIBLE_DEVICES"] == "5"
    assert (one.cores, two.cores) == ({0, 1, 2, 3}, {4, 5, 6, 7})
    assert one.gpu_memory is two.gpu_memory is None
    assert slots.shared_gpus([one, two]) == 0
    with pytest.raises(OptionError, match=r"trainer\.devices=2"):
        slots.worker_places(_launcher(jobs=2), [{**TRAINER, "devices": 2}], tmp_path)


def test_more_workers_than_gpus_share_their_memory_and_the_cores(monkeypatch, tmp_path):
    places = _places(monkeypatch, tmp_path, 3, "3", "5", cores=2)
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in places] == ["3", "5", "3"]
    assert [one.gpu_memory for one in places] == [39_400_000_000, None, 39_400_000_000]
    assert [one.cores for one in places] == [None] * 3  # there are too few
    assert {one.environment["OMP_NUM_THREADS"] for one in places} == {"1"}
    assert slots.shared_gpus(places) == 1
    assert slots.shared_gpus(_places(monkeypatch, tmp_path, 4, "3", "5")) == 2


def test_gpus_are_counted_in_a_process_of_its_own_and_named_as_the_user_does(monkeypatch, capsys):
    properties = {0: mock.Mock(total_memory=8), 1: mock.Mock(total_memory=16)}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.get)
    slots.print_gpus([])
    answer = mock.Mock(returncode=0, stdout=capsys.readouterr().out)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots._gpus() == [("0", 8), ("1", 16)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert slots._gpus() == [("5", 8), ("GPU-7", 16)]


def test_a_gpu_that_is_too_small_for_its_workers_is_one_message(monkeypatch, tmp_path):
    with pytest.raises(OptionError, match=r"jobs=20: 20 runs do not fit on a GPU with 8 GB.*=6"):
        _places(monkeypatch, tmp_path, 20, "0", memory=8 * 10**9)
    with pytest.raises(OptionError, match=r"jobs=98: 49 runs do not fit.*=96"):
        _places(monkeypatch, tmp_path, 98, "0", "1")


def test_a_worker_keeps_its_tensors_to_its_share_of_the_gpu(monkeypatch):
    kept = []
    total = mock.Mock(total_memory=80)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: total)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", kept.append)
    worker._keep_to_gpu_memory()
    monkeypatch.setenv(GPU_MEMORY, "20")
    worker._keep_to_gpu_memory()
    assert kept == [0.25]


def test_a_worker_is_told_its_share_of_the_gpu(monkeypatch):
    told = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: told.append(env) or mock.Mock())
    for room in (None, 7):
        Worker(Place(gpu_memory=room))._start([])
    assert [environment.get(GPU_MEMORY) for environment in told] == [None, "7"]


def test_a_plan_counts_with_runs_at_the_same_time(monkeypatch, tmp_path):
    def said(jobs, *gpus, trainer=TRAINER):
        monkeypatch.setattr(slots, "_gpus", lambda: [slots.Gpu(gpu, 10 * 10**9) for gpu in gpus])
        job = mock.Mock(config={"trainer": trainer})
        sweep = mock.Mock(cfg=_launcher(jobs=jobs), jobs=[job] * 3, folder=tmp_path)
        costs = [mock.Mock(peak_memory_bytes=number * 10**9) for number in (1, 2, 6)]
        return plan._at_once(sweep, costs, [30.0, 20.0, 50.0])

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert said(2, "0", "1") == ["2 runs at once, each on a GPU of its own: 1:10 min left"]
    assert said(2, "0") == [
        "2 runs at once on 1 GPU: 1:10 min left if they compute together without loss, 1:40 min if "
        "they take turns; 4.4 GB of the GPU's memory for each",
        "1 run needs more than that: choose fewer by hydra.launcher.jobs=",
    ]
    on_cores = said(2, trainer={**TRAINER, "accelerator": "cpu"})
    assert on_cores == ["2 runs at once, on shares of the cores: 1:10 min left or more"]
    assert said(1, "0") == []


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
    assert launchers.SAFE_PATH not in os.environ  # which this process's other children would inherit


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
