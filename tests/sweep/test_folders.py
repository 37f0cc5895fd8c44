"""Which folder contains which run: found by its configuration, never overwritten."""

import copy
from pathlib import Path

import pytest

from densenet_cli.config.compose import composing
from densenet_cli.record.identity import identity, setting
from densenet_cli.record.run_record import RunRecord, now
from densenet_cli.run import supervisor
from densenet_cli.run.supervisor import Place
from densenet_cli.sweep import jobs, multirun
from densenet_cli.sweep.folders import Folders
from densenet_cli.sweep.jobs import Job
from densenet_cli.sweep.runner import Runner
from densenet_cli.sweep.status import SweepStatus


@pytest.fixture
def one(config):
    return config("experiment=quickstart")


def _recorded(folder, config):
    folder.mkdir(parents=True)
    RunRecord.create(folder, config, [])


def test_a_run_is_found_whatever_the_name_of_its_folder(one, tmp_path):
    _recorded(tmp_path / "sweep/some name", one)
    assert Folders(tmp_path / "sweep").find("growth_rate=12", one) == tmp_path / "sweep/some name"


def test_the_folder_of_another_configuration_is_not_used(one, config, tmp_path):
    other = config("experiment=quickstart", "epochs=3")
    _recorded(tmp_path / "sweep/growth_rate=12", one)
    place = Folders(tmp_path / "sweep").find("growth_rate=12", other)
    assert place.name == f"growth_rate=12~{identity(other)[:6]}"


def test_names_that_differ_only_in_case_are_made_different(one, config, tmp_path):
    folders = Folders(tmp_path / "sweep")
    other = config("experiment=quickstart", "epochs=3")
    assert folders.find("shortcut=a", one).name == "shortcut=a"
    assert folders.find("shortcut=A", other).name != "shortcut=A"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1, "state": "done"}'])
def test_a_record_that_cannot_be_read_is_left_alone(text, one, tmp_path):
    (tmp_path / "sweep/growth_rate=12").mkdir(parents=True)
    (tmp_path / "sweep/growth_rate=12/run.json").write_text(text)
    place = Folders(tmp_path / "sweep").find("growth_rate=12", one)
    assert place.name == f"growth_rate=12~{identity(one)[:6]}"


@pytest.mark.parametrize(
    "word", ["data.root=elsewhere", "data.num_workers=3", "logger=tensorboard", "checkpoint_minutes=1"]
)
def test_an_option_without_effect_on_results_makes_no_other_run(word, config):
    assert identity(config(word)) == identity(config())


def test_another_folder_of_the_users_own_images_makes_another_run(config):
    one, other = (config("data=image_folder", f"data.root={root}") for root in ("birds", "fish"))
    assert identity(one) != identity(other)


def test_a_number_is_the_same_however_it_is_typed(config):
    assert identity(config("model.compression=1")) == identity(config("model.compression=1.0"))


@pytest.mark.parametrize(
    "word", ["seed=1", "epochs=299", "trainer=cpu", "data.augment=false", "model.compression=0.6"]
)
def test_an_option_that_changes_a_result_makes_another_run(word, config):
    assert identity(config(word)) != identity(config())


def test_another_seed_makes_no_other_setting(config):
    assert setting(config("seed=1")) == setting(config())
    assert setting(config("epochs=3")) != setting(config())


def test_a_recorded_configuration_has_the_same_identity(one, tmp_path):
    _recorded(tmp_path / "run", one)
    assert identity(RunRecord.read(tmp_path / "run").fields["config"]) == identity(one)
    changed = copy.deepcopy(one)
    changed["recipe"]["optimizer"]["lr"] = float("inf")
    _recorded(tmp_path / "infinite", changed)
    assert identity(RunRecord.read(tmp_path / "infinite").fields["config"]) == identity(changed)


def test_the_record_of_another_run_in_the_folder_does_not_count(one, config, tmp_path):
    """Two processes can choose the same name for two runs at the same moment."""
    other = config("experiment=quickstart", "seed=1")
    _recorded(tmp_path / "sweep/growth_rate=4", other)
    RunRecord.read(tmp_path / "sweep/growth_rate=4").update(state="done", results={"test_error": 1.0})
    status = SweepStatus([Job([], one, tmp_path / "sweep/growth_rate=4")])
    (job,) = status.jobs
    status.reread(job)
    assert status[job] == "to do"
    runner = Runner(status, [Place()], fail_fast=False)
    assert runner.next_job() is job
    assert job.folder.name == f"growth_rate=4~{identity(one)[:6]}"


def test_the_end_of_a_worker_changes_no_record_that_is_finished_or_of_another_run(
    one, config, tmp_path
):
    _recorded(tmp_path / "run", one)
    RunRecord.read(tmp_path / "run").update(state="done")
    assert supervisor._record_end(tmp_path / "run", one, [], "either", -9) == 0
    other = config("experiment=quickstart", "seed=1")
    assert supervisor._record_end(tmp_path / "run", other, [], "either", -9) == 1
    assert RunRecord.read(tmp_path / "run").fields["state"] == "done"
    RunRecord.read(tmp_path / "run").update(state="running")
    assert supervisor._record_end(tmp_path / "run", one, [], "either", -9) == 1
    fields = RunRecord.read(tmp_path / "run").fields
    assert fields["state"] == "failed"
    assert "SIGKILL" in fields["error"]


def test_commands_for_one_sweep_are_merged_without_loss_or_repetition():
    """None has started, so that there are no records to tell their folders apart."""
    with composing():
        folders = Folders(Path("outputs/mine"))
        narrow, wide, other_seed = (
            jobs.compose_sweep(["model.growth_rate=4,6", *words, "sweep.name=mine"], folders)
            for words in ([], ["model.compression=0.5,1.0"], ["seed=1"])
        )
    merged = multirun._merged([narrow, wide, other_seed]).jobs
    assert len(merged) == 6
    assert len({job.identity for job in merged}) == 6
    assert len({job.folder for job in merged}) == 6


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_a_run_that_failed_a_moment_ago_is_repeated_unless_it_fails_now(state, config, tmp_path):
    options = config("experiment=quickstart")
    job = Job([], options, tmp_path / "run")
    job.folder.mkdir()
    record = RunRecord.create(job.folder, options, [])
    record.update(state=state, ended=now())
    status = SweepStatus([job])  # begins within the same second
    status.reread(job)
    assert status[job] == "to do"
    record.update(state=state, ended=now())  # by another process, meanwhile
    status.reread(job)
    assert status[job] == state


def test_runs_under_several_budgets_have_their_own_folders():
    typed = ["data=digits", "budget=1e12,6.1e13,10min,20epochs", "seed=0,1"]
    with composing():
        sweep = jobs.compose_sweep(typed)
        (again,) = jobs.compose_sweep(["data=digits", "budget=1000000000000"]).jobs
    names = [job.folder.name for job in sweep.jobs]
    budgets = ("1e12", "6.1e13", "10min", "20epochs")
    assert names == [f"budget={one},seed={seed}" for one in budgets for seed in (0, 1)]
    assert len({setting(job.config) for job in sweep.jobs}) == 4
    assert again.identity == sweep.jobs[0].identity
