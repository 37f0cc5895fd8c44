"""A run that is interrupted at any moment and resumed ends with the weights of an uninterrupted run."""

import json
import shutil
import signal
import subprocess
import sys

import findings
import pytest
import torch
from tiny_run import TINY

from densenet_cli.training import checkpoints

OVERRIDES = [*TINY, "model.dropout=0.2", "epochs=3", "data.validation=99"]


def _final(folder):
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    tensors = {f"weights/{key}": value for key, value in checkpoint["state_dict"].items()}
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in state.items()}
    results = json.loads((folder / "run.json").read_text())["results"]
    rows = (folder / "metrics.csv").read_text().splitlines()
    # all columns except the last two, which are the speed
    return tensors, results, [row.rsplit(",", 2)[0] for row in rows]


def _assert_equal(folder, other):
    tensors, results, rows = _final(folder)
    other_tensors, other_results, other_rows = _final(other)
    assert tensors.keys() == other_tensors.keys()
    for name, value in tensors.items():
        same = torch.equal(value, other_tensors[name]) if torch.is_tensor(value) else True
        assert same, name
    assert results == other_results
    assert rows == other_rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "densenet_cli.commands.run", *OVERRIDES]
    subprocess.run([*command, "hydra.run.dir=outputs/whole"], cwd=folder, check=True, timeout=200)
    return folder / "outputs/whole"


@pytest.mark.parametrize(
    ("sent", "status", "state", "minutes"),
    [
        (signal.SIGKILL, -9, "running", 0.0001),  # a checkpoint within the epoch
        pytest.param(
            signal.SIGKILL, -9, "running", 10, marks=pytest.mark.slow
        ),  # a checkpoint at the epoch's end
        pytest.param(signal.SIGINT, 130, "interrupted", 0.0001, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, "interrupted", 10, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    sent, status, state, minutes, whole, command, interrupted, tmp_path
):
    broken = tmp_path / "outputs/broken"
    returned, stderr = interrupted(
        *OVERRIDES,
        f"checkpoint_minutes={minutes}",
        "hydra.run.dir=outputs/broken",
        once="outputs/broken/checkpoints/last.ckpt",
        send=sent,
    )
    assert returned == status
    record = json.loads((broken / "run.json").read_text())
    assert record["state"] == state
    checkpoint = torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] < 3 * 21  # else nothing would be left to train
    if sent != signal.SIGKILL:
        assert "densenet-run resume=outputs/broken" in stderr
    resumed = command("resume=outputs/broken")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((broken / "run.json").read_text())["resumed"] == 1
    _assert_equal(broken, whole)


@pytest.fixture
def unbroken_and_killed(command, interrupted, tmp_path):
    """Words typed -> the folder of a run, and of the same run killed in an epoch and resumed."""

    def both(*words):
        folders = [tmp_path / "outputs" / name for name in ("unbroken", "killed")]
        assert command(*words, f"hydra.run.dir={folders[0]}").returncode == 0
        interrupted(
            *(*words, "checkpoint_minutes=0.0001", f"hydra.run.dir={folders[1]}"),
            once=f"{folders[1]}/checkpoints/last.ckpt",
            send=signal.SIGKILL,
        )
        assert command(f"resume={folders[1]}").returncode == 0
        return folders

    return both


@pytest.mark.slow
def test_a_whitened_run_of_whole_batches_is_resumed_to_the_last_bit(unbroken_and_killed):
    own = ["data.normalise=zca", "data.border=reflect", "data.drop_last=true"]
    folders = unbroken_and_killed(*OVERRIDES, *own)
    _assert_equal(*folders)
    checkpoints = [torch.load(one / "checkpoints/last.ckpt", weights_only=True) for one in folders]
    whitenings = [one["Digits"]["pixel_statistics"]["matrix"] for one in checkpoints]
    assert torch.equal(*whitenings)
    assert checkpoints[1]["global_step"] == 3 * (1338 // 64)  # 20 whole batches, and 58 images left out


@pytest.mark.slow
def test_a_run_of_the_modern_recipe_is_resumed_to_the_last_bit(unbroken_and_killed):
    own = ["recipe=modern_imagenet", "data.batch_size=64", "data.num_workers=2", "data.validation=99"]
    _assert_equal(*unbroken_and_killed(*OVERRIDES, *own))


@pytest.mark.slow
def test_a_resumed_run_leaves_out_the_blocks_that_the_uninterrupted_one_does(unbroken_and_killed):
    words = ["experiment=quickstart", "model=resnet", "model.depth=14", "epochs=3", "trainer=cpu"]
    words += ["model.survival_probability=0.5", "next_steps=[]"]
    _assert_equal(*unbroken_and_killed(*words))


def test_a_finished_run_is_not_run_again(typed, tmp_path):
    assert typed(*TINY, "epochs=1", "hydra.run.dir=outputs/done")[0] == 0
    before = (tmp_path / "outputs/done/run.json").read_text()
    assert typed("resume=outputs/done") == (0, "")
    assert (tmp_path / "outputs/done/run.json").read_text() == before


def test_a_run_without_its_checkpoint_starts_again_with_a_new_record(typed, tmp_path):
    assert typed(*TINY, "hydra.run.dir=outputs/run")[0] == 0
    folder = tmp_path / "outputs/run"
    shutil.copytree(folder, tmp_path / "whole")
    lost = json.loads((folder / "run.json").read_text())
    lost |= {"state": "interrupted", "git": "another", "seconds": 5000, "epoch": 2}
    (folder / "run.json").write_text(json.dumps(lost))
    shutil.rmtree(folder / "checkpoints")
    status, stderr = typed("resume=outputs/run")
    assert status == 0
    assert "there is no outputs/run/checkpoints/last.ckpt, so the run starts again" in stderr
    assert "of 2 of 2 epochs is named *-before.*" in stderr
    assert (folder / "metrics-before.csv").exists()
    record = json.loads((folder / "run.json").read_text())
    assert record["git"] != "another"
    assert record["seconds"] < 5000
    assert "resumed" not in record
    _assert_equal(folder, tmp_path / "whole")


def test_what_is_left_of_a_first_epoch_is_deleted(typed, tmp_path):
    """The state after a kill between the first best.ckpt and the first last.ckpt."""
    assert typed(*TINY, "epochs=1", "data.validation=99", "hydra.run.dir=outputs/run")[0] == 0
    folder = tmp_path / "outputs/run"
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"state": "running"}))
    (folder / "checkpoints/last.ckpt").unlink()
    assert (folder / "checkpoints/best.ckpt").exists()
    assert typed("resume=outputs/run") == (0, "")
    assert not list(folder.rglob("*-before.*"))
    assert json.loads((folder / "run.json").read_text())["results"] == record["results"]


def test_a_run_that_resumes_in_another_precision_warns(typed, tmp_path):
    assert typed(*TINY, "hydra.run.dir=outputs/run")[0] == 0
    path = tmp_path / "outputs/run/run.json"
    record = json.loads(path.read_text())
    now = record["precision"]
    path.write_text(json.dumps(record | {"state": "interrupted", "precision": "64-true"}))
    status, stderr = typed("resume=outputs/run")
    assert status == 0
    assert f"began in 64-true and resumes in {now}, by trainer.precision=auto" in stderr


def test_a_kill_between_best_and_last_loses_neither_checkpoint(typed, tmp_path, monkeypatch):
    overrides = [*TINY, "data.validation=200", "recipe.report=best", "epochs=3"]
    assert typed(*overrides, "hydra.run.dir=outputs/whole")[0] == 0
    link = checkpoints.replace_by_link
    calls = []

    def broken_at_the_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        link(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "replace_by_link", broken_at_the_second)
        assert typed(*overrides, "hydra.run.dir=outputs/broken")[0] != 0
    assert len(calls) == 2
    assert typed("resume=outputs/broken")[0] == 0
    _assert_equal(tmp_path / "outputs/broken", tmp_path / "outputs/whole")


@pytest.mark.parametrize("damage", ["", "hello", "epochs: 3", "[1,2"])
def test_a_damaged_configuration_is_named(damage, typed, tmp_path):
    assert typed(*TINY, "epochs=1", "hydra.run.dir=outputs/run")[0] == 0
    (tmp_path / "outputs/run/config.yaml").write_text(damage)
    status, message = typed("resume=outputs/run")
    assert (status, message.count("\n")) == (1, 1)
    assert "outputs/run contains no configuration" in message


def test_resuming_in_a_folder_that_does_not_exist_is_refused(typed):
    status, message = typed("resume=outputs/nowhere")
    assert status == 1
    assert message.startswith(
        "densenet-run: resume=outputs/nowhere: there is no such folder; name that of"
    )


@pytest.mark.parametrize("kept", [True, False])
def test_a_refused_override_does_not_change_a_run(kept, typed, tmp_path):
    assert typed(*TINY, "epochs=1", "hydra.run.dir=outputs/run")[0] == 0
    run = tmp_path / "outputs/run"
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    if not kept:
        shutil.rmtree(run / "checkpoints")
    before = (run / "config.yaml").read_text()
    for word in ("++trainer.foo=1", "++trainer.foo.bar=1", "~trainer.precision"):
        assert typed("resume=outputs/run", word)[0] == 1
        assert (run / "config.yaml").read_text() == before
        assert json.loads((run / "run.json").read_text())["config"] == record["config"]
    assert typed("resume=outputs/run")[0] == 0


def test_a_run_killed_while_it_was_tested_is_only_tested(typed, tmp_path):
    assert typed(*TINY, "hydra.run.dir=outputs/run", "data.validation=99")[0] == 0
    run = tmp_path / "outputs/run"
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "running", "results": {}}))
    before = _final(run)
    last = (run / "checkpoints/last.ckpt").read_bytes()
    assert typed("resume=outputs/run")[0] == 0
    after = json.loads((run / "run.json").read_text())
    assert after["state"] == "done"
    assert after["results"] == record["results"]
    assert _final(run)[2] == before[2]
    assert (run / "checkpoints/last.ckpt").read_bytes() == last


def test_options_that_identify_a_run_cannot_change_when_it_resumes(typed):
    assert typed(*TINY, "epochs=1", "hydra.run.dir=outputs/done")[0] == 0
    status, message = typed("resume=outputs/done", "model.growth_rate=8")
    assert status == 1
    assert "model.growth_rate=8: cannot change" in message


def test_the_device_may_change_when_a_run_resumes(typed, tmp_path):
    overrides = ["++trainer.limit_train_batches=4", "trainer.precision=32-true"]
    assert typed(*TINY, *overrides, "epochs=1", "hydra.run.dir=outputs/run")[0] == 0
    run = tmp_path / "outputs/run"
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    assert typed("resume=outputs/run", "trainer.precision=bf16-mixed")[0] == 0
    trainer = json.loads((run / "run.json").read_text())["config"]["trainer"]
    assert trainer["precision"] == "bf16-mixed"
    assert trainer["limit_train_batches"] == 4  # options that were not typed stay
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    assert typed("resume=outputs/run", "trainer=cpu")[0] == 0
    trainer = json.loads((run / "run.json").read_text())["config"]["trainer"]
    assert trainer["precision"] == "32-true"  # as typed for the run; trainer=cpu has auto


def test_two_processes_cannot_resume_the_same_run(typed, tmp_path):
    from filelock import FileLock

    assert typed(*TINY, "epochs=1", "hydra.run.dir=outputs/busy")[0] == 0
    with FileLock(tmp_path / "outputs/busy/.lock"):
        status, message = typed("resume=outputs/busy")
    assert status == 1
    assert "is in use: another process is running there" in message


def test_a_damaged_checkpoint_is_named(typed, tmp_path):
    assert typed(*TINY, "epochs=1", "hydra.run.dir=outputs/run")[0] == 0
    run = tmp_path / "outputs/run"
    last = run / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    status, message = typed("resume=outputs/run")
    assert status == 1
    assert "last.ckpt: cannot be read as a checkpoint" in message


@pytest.mark.slow
def test_a_killed_run_with_several_labels_ends_as_the_uninterrupted_one(
    tmp_path, interrupted, monkeypatch
):
    """AUROC and F1 of an epoch that was killed and resumed are those of the whole epoch."""
    for name, value in findings.environment().items():
        monkeypatch.setenv(name, value)
    words = [*TINY, *findings.words_for(tmp_path), "epochs=3", "recipe.class_weights=balanced"]
    words += ["recipe.batch_size=8", "data.validation=60", "checkpoint_minutes=0.0001"]
    command = [sys.executable, "-m", "densenet_cli.commands.run"]
    whole = [*command, *words, "hydra.run.dir=outputs/whole"]
    subprocess.run(whole, cwd=tmp_path, check=True, timeout=200)
    once = "outputs/run/checkpoints/last.ckpt"
    status, _ = interrupted(*words, "hydra.run.dir=outputs/run", once=once, send=signal.SIGKILL)
    assert status == -9
    position = checkpoints.position(checkpoints.load_checkpoint(tmp_path / once))
    assert position < (3, 0)
    resume = [*command, "resume=outputs/run", "trust=findings.Findings"]
    subprocess.run(resume, cwd=tmp_path, check=True, timeout=200)
    _assert_equal(tmp_path / "outputs/run", tmp_path / "outputs/whole")
