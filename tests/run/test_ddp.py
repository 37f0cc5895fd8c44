"""Several processes train one network: equal weights, one folder, one clear message if one fails."""

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_run import TINY

from densenet_cli.record import outcomes

# Without batch norm: each process computes its statistics from its part of the batch.
NETWORK = '''
import os
import torch
from torch import nn

class Small(nn.Module):
    """A small network without batch norm; `dies` makes the second process fail at its third step."""
    def __init__(self, num_classes, dies=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 36, num_classes))
        self.dies, self.calls = dies, 0

    def forward(self, images):
        self.calls += 1
        if self.dies and os.environ.get("LOCAL_RANK") == "1" and self.calls == 3:
            raise RuntimeError("the second process fails on purpose")
        return self.layers(images)
'''
OVERRIDES = ["--config-dir=mine", "experiment=quickstart", "model=small", "data.validation=101"]
OVERRIDES += ["epochs=2", "next_steps=[]", "trainer.precision=32-true", "recipe=paper_cifar"]


@pytest.fixture(autouse=True)
def _own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small_network.py").write_text(NETWORK)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine/model/small.yaml").write_text("_target_: small_network.Small\ndies: false\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_two_processes_give_the_weights_of_one(command, tmp_path):
    for name, trainer in (("one", "cpu"), ("two", "ddp_cpu")):
        # 1,336 images in batches of 64, so the last batch is a short one of 56
        words = ["recipe.mixup=0.4", "recipe.cutmix=1.0", f"hydra.run.dir=outputs/{name}"]
        answer = command(*OVERRIDES, f"trainer={trainer}", *words)
        assert answer.returncode == 0, answer.stderr
    one, two = (_weights(tmp_path / "outputs" / name) for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)
    records = [json.loads((tmp_path / f"outputs/{n}/run.json").read_text()) for n in ("one", "two")]
    assert [record["processes"] for record in records] == [1, 2]
    # 101 and 360 images: the processes get unequal shares, and each image is counted once
    for name, count in (("validation_error_last", 101), ("test_error_last", 360)):
        wrong = [record["results"][name] / 100 * count for record in records]
        assert wrong[1] == pytest.approx(round(wrong[1]), abs=1e-3), name
        assert wrong[0] == pytest.approx(wrong[1], abs=1.01), (
            name
        )  # nearly equal logits may change order
    kept = [outcomes.read(tmp_path / "outputs" / name) for name in ("one", "two")]
    assert [len(one.right) for one in kept] == [360, 360]
    assert sum(one != other for one, other in zip(*(each.right for each in kept), strict=True)) <= 1
    assert kept[1].error == pytest.approx(records[1]["results"]["test_error"], abs=1e-4)
    assert len(list((tmp_path / "outputs").iterdir())) == 2
    rows = (tmp_path / "outputs/two/metrics.csv").read_text().splitlines()
    assert len(rows) == 3


STOCHASTIC = '''
import os
from densenet_cli.models.resnet import ResNet

class Stochastic(ResNet):
    """ResNet-14 with stochastic depth, which notes how often each block was computed."""
    def __init__(self, num_classes):
        super().__init__(num_classes, 14, survival_probability=0.5)

    def forward(self, images):
        logits = super().forward(images)
        if self.training:
            counts = [int(block.bn1.num_batches_tracked) for stage in self.stages for block in stage]
            with open("computed" + os.environ.get("LOCAL_RANK", "0"), "a") as file:
                print(*counts, file=file)
        return logits
'''


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "ddp_find_unused_parameters_false"])
def test_both_processes_leave_out_the_same_blocks(strategy, command, tmp_path):
    """None waits for the gradients of a block that is not computed, with torch's DDP, too."""
    (tmp_path / "stochastic.py").write_text(STOCHASTIC)
    (tmp_path / "mine/model/small.yaml").write_text("_target_: stochastic.Stochastic\n")
    words = ["trainer=ddp_cpu", f"trainer.strategy={strategy}", "++trainer.accumulate_grad_batches=2"]
    answer = command(*OVERRIDES, *words, "hydra.run.dir=outputs/run")
    assert answer.returncode == 0, answer.stderr
    first, second = ((tmp_path / f"computed{rank}").read_text().splitlines() for rank in (0, 1))
    assert len(first) == 2 * 21
    assert first == second
    assert all(10 < int(count) <= 42 for count in first[-1].split())  # 0.5 to 0.92 of the batches
    assert first[-1] != "42 42 42 42 42 42"


@pytest.mark.slow
def test_an_averaged_network_is_the_same_in_both_processes(command, tmp_path):
    """The last epoch evaluates the same weights on the same images as the final test."""
    overrides = [*TINY, "trainer=ddp_cpu", "recipe.ema_decay=0.9", "data.validation=0"]
    answer = command(*overrides, "hydra.run.dir=outputs/run")
    assert answer.returncode == 0, answer.stderr
    *_, last = csv.DictReader((tmp_path / "outputs/run/metrics.csv").open())
    results = json.loads((tmp_path / "outputs/run/run.json").read_text())["results"]
    for name in ("test_error", "test_loss"):
        assert float(last[name]) == pytest.approx(results[name], abs=1e-6)


@pytest.mark.slow
def test_a_sweep_continues_after_a_process_has_died(command, tmp_path):
    overrides = [*OVERRIDES, "trainer=ddp_cpu", "epochs=1", "sweep.name=sweep"]
    answer = command("--multirun", *overrides, "model.dies=true,false")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "process 1: RuntimeError: the second process fails on purpose" in answer.stderr
    sweep = tmp_path / "outputs/sweep"
    died, lived = (json.loads((sweep / f"dies={it}/run.json").read_text()) for it in ("true", "false"))
    assert (died["state"], lived["state"]) == ("failed", "done")
    assert "the second process fails on purpose" in died["error"]
    assert "fails on purpose" in (sweep / "dies=true/run.log").read_text()
    assert {path.name for path in sweep.iterdir()} == {"dies=true", "dies=false", "sweep.yaml", ".lock"}


@pytest.mark.slow
def test_a_sweep_of_runs_of_two_processes_is_resumed(command, tmp_path):
    """Killed with -9 in its second run, with all its processes; then completed."""

    alone = [*OVERRIDES, "trainer=ddp_cpu", "epochs=4", "checkpoint_minutes=0.0001"]
    overrides = ["--multirun", *alone, "seed=0,1", "sweep.name=sweep"]
    process = subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.commands.run", *overrides], cwd=tmp_path
    )
    second = tmp_path / "outputs/sweep/seed=1"
    while not (second / "metrics.csv").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = (tmp_path / "outputs/sweep/seed=0/run.json").read_text()
    answer = command(*overrides)
    assert answer.returncode == 0, answer.stderr
    assert "2 runs: 1 done, 1 done before" in answer.stdout
    assert (tmp_path / "outputs/sweep/seed=0/run.json").read_text() == first
    record = json.loads((second / "run.json").read_text())
    assert (record["state"], record["resumed"], record["processes"]) == ("done", 1, 2)
    assert len((second / "metrics.csv").read_text().splitlines()) == 5
    whole = command(*alone, "seed=1", "hydra.run.dir=outputs/whole")
    assert whole.returncode == 0, whole.stderr
    weights = _weights(second)
    for key, value in _weights(tmp_path / "outputs/whole").items():
        assert torch.equal(value, weights[key]), key


def test_a_batch_size_that_cannot_be_shared_is_refused(command):
    answer = command(*TINY, "trainer=ddp_cpu", "data.batch_size=63")
    assert answer.returncode == 1
    assert "data.batch_size=63" in answer.stderr
    assert "multiple of 2" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed(command, interrupted, tmp_path):

    overrides = [*OVERRIDES, "trainer=ddp_cpu", "epochs=3", "checkpoint_minutes=0.0001"]
    whole = command(*overrides, "hydra.run.dir=outputs/whole")
    assert whole.returncode == 0, whole.stderr
    status, stderr = interrupted(
        *overrides,
        "hydra.run.dir=outputs/broken",
        once="outputs/broken/checkpoints/last.ckpt",
        send=signal.SIGINT,
    )
    assert status == 130
    assert "resume=outputs/broken" in stderr
    resumed = command("resume=outputs/broken", "trust=small_network.Small")
    assert resumed.returncode == 0, resumed.stderr
    whole_weights = _weights(tmp_path / "outputs/whole")
    for key, value in _weights(tmp_path / "outputs/broken").items():
        assert torch.equal(value, whole_weights[key]), key


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("cpu", "ddp_cpu"), ("ddp_cpu", "cpu")])
def test_a_run_may_resume_with_another_number_of_processes(
    before, after, command, interrupted, tmp_path
):
    """Without batch norm and dropout it then ends with the same weights, up to rounding."""
    overrides = [*OVERRIDES, "epochs=3", "checkpoint_minutes=0.0001", "recipe.ema_decay=0.9"]
    whole = command(*overrides, "trainer=cpu", "hydra.run.dir=outputs/whole")
    assert whole.returncode == 0, whole.stderr
    broken = tmp_path / "outputs/broken"
    status, _ = interrupted(
        *overrides,
        f"trainer={before}",
        "hydra.run.dir=outputs/broken",
        once="outputs/broken/checkpoints/last.ckpt",
        send=signal.SIGINT,
    )
    assert status == 130
    checkpoint = torch.load(broken / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] < 3 * 21
    resumed = command("resume=outputs/broken", "trust=small_network.Small", f"trainer={after}")
    assert resumed.returncode == 0, resumed.stderr
    assert "the run began with" in resumed.stderr
    whole_weights = _weights(tmp_path / "outputs/whole")
    for name, value in _weights(broken).items():
        torch.testing.assert_close(value, whole_weights[name], rtol=1e-4, atol=1e-5)
    rows = [
        list(csv.DictReader((tmp_path / f"outputs/{name}/metrics.csv").open()))
        for name in ("broken", "whole")
    ]
    assert len(rows[0]) == 3
    for own, expected in zip(*rows, strict=True):
        for name in ("train_loss", "validation_loss", "learning_rate"):
            assert float(own[name]) == pytest.approx(float(expected[name]), rel=1e-3), name
        wrong = float(own["train_error"]) / 100 * 1336  # each image is counted once
        assert wrong == pytest.approx(round(wrong), abs=1e-2)


def _torchrun(*arguments):
    torchrun = [sys.executable, "-m", "torch.distributed.run", *arguments]
    return subprocess.Popen(
        [*torchrun, "-m", "densenet_cli.commands.run", *OVERRIDES, "trainer=ddp_cpu"],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_torchrun_starts_the_processes_of_one_run(machines, command, tmp_path):
    """On one machine, and on two: two launches that meet at a port of this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    about = ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=test"]
    about += [f"--nnodes={machines}", f"--nproc-per-node={2 // machines}", "--local-addr=127.0.0.1"]
    for launch in [_torchrun(*about) for _ in range(machines)]:
        _, said = launch.communicate(timeout=240)
        assert launch.returncode == 0, said
    (run,) = (tmp_path / "outputs").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert (record["state"], record["processes"]) == ("done", 2)
    alone = command(*OVERRIDES, "trainer=ddp_cpu", "hydra.run.dir=outputs/alone")
    assert alone.returncode == 0, alone.stderr
    weights = _weights(tmp_path / "outputs/alone")
    assert all(torch.equal(value, weights[name]) for name, value in _weights(run).items())


@pytest.mark.slow
def test_fused_and_reference_densenets_train_alike_in_two_processes(command, tmp_path):
    overrides = ["experiment=quickstart", "model.depth=16", "epochs=1", "trainer=ddp_cpu"]
    overrides += ["trainer.precision=32-true", "++trainer.max_steps=3"]
    for name in ("fused", "reference"):
        answer = command(*overrides, f"trainer.implementation={name}", f"hydra.run.dir=outputs/{name}")
        assert answer.returncode == 0, answer.stderr
    fused, reference = (_weights(tmp_path / "outputs" / name) for name in ("fused", "reference"))
    for key, value in reference.items():
        torch.testing.assert_close(fused[key], value, rtol=1e-3, atol=1e-4)
