"""sweep.pruner: Optuna's decisions, made once, whatever is killed; pruned runs count in no mean."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from zlib import crc32

import pytest
from omegaconf import OmegaConf
from tiny_run import TINY

from densenet_cli.options import UserError
from densenet_cli.record.run_record import RunRecord
from densenet_cli.run.resume import is_resumed

optuna = pytest.importorskip("optuna")

from densenet_cli.sweep.pruning import (  # noqa: E402
    STUDY,
    Judge,
    build_pruner,
    pruner_options,
)

EPOCHS = 10
SPACE = {
    "lr": optuna.distributions.FloatDistribution(0.001, 1.0, log=True),
    "k": optuna.distributions.CategoricalDistribution(("12", "24")),
}
OPTIONS = {
    "median": {"name": "median", "startup_trials": 3, "first_epoch": 2, "every": 3},
    "successive_halving": {"name": "successive_halving", "first_epoch": 1, "reduction_factor": 3},
    "hyperband": {"name": "hyperband", "first_epoch": 1, "reduction_factor": 3},
}
SEARCH = [
    "--multirun",
    "hydra/sweeper=optuna",
    "sweep.pruner=median",
    *TINY,
    "data.validation=200",
    "model.compression=0.5,1.0",
    "recipe.optimizer.lr=tag(log,interval(0.01,1))",
    "sweep.name=mine",
]


def _error(params, epoch):
    """A made-up error that falls with the epochs, and depends on the values in no simple way."""
    noise = crc32(f"{params['lr']:.6f} {params['k']} {epoch}".encode()) % 1000 / 500
    return round(90 / (1 + epoch * (params["lr"] + (0.1 if params["k"] == "24" else 0.3))) + noise, 4)


def _by_optuna(options, trials):
    """The search as Optuna documents it: report, should_prune, tell."""
    study = optuna.create_study(study_name=STUDY, pruner=build_pruner(options, EPOCHS))
    for number in range(trials):
        study.sampler = optuna.samplers.TPESampler(seed=number)
        trial = study.ask(SPACE)
        state = None
        for epoch in range(1, EPOCHS + 1):
            trial.report(_error(trial.params, epoch), epoch)
            if epoch < EPOCHS and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        value = None if state else _error(trial.params, EPOCHS)
        study.tell(trial, value, state=state)
    return _facts(study)


def _facts(study):
    return [
        (trial.state.name, trial.params, trial.intermediate_values, trial.value, trial.system_attrs)
        for trial in study.trials
    ]


WRITING = (
    "create_new_trial",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


class Killed(Exception):
    pass


def _opened(path, options):
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        pruner=build_pruner(options, EPOCHS),
        load_if_exists=True,
    )
    return Judge(study, storage)


def _search(judge, trials):
    """What a search does with its study, from wherever it was broken off."""
    study = judge.study
    while True:
        running = [one for one in study.trials if one.state.name == "RUNNING"]
        if not running:
            if len(study.trials) == trials:
                return
            study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
            judge.propose(SPACE)
            continue
        (trial,) = running
        errors, state = {}, None
        for epoch in range(1, EPOCHS + 1):
            errors[epoch] = _error(trial.params, epoch)
            if epoch < EPOCHS and judge.prunes(trial.number, errors, epoch):
                state = optuna.trial.TrialState.PRUNED
                break
        judge.report(trial.number, errors)
        study.tell(trial.number, None if state else errors[EPOCHS], state=state)


@pytest.mark.parametrize(
    "name",
    [
        "hyperband",
        pytest.param("median", marks=pytest.mark.slow),
        pytest.param("successive_halving", marks=pytest.mark.slow),
    ],
)
def test_decisions_are_those_of_optuna(name, tmp_path):
    options = OPTIONS[name]
    judge = _opened(tmp_path / "optuna.db", options)
    _search(judge, trials=9)
    facts = _facts(judge.study)
    assert facts == _by_optuna(options, trials=9)
    states = [state for state, *_ in facts]
    assert states.count("PRUNED") >= 2
    assert states.count("COMPLETE") >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_kill_before_any_write_changes_no_decision(name, tmp_path, monkeypatch):
    """The search dies before every second or third of its writes, and is begun again."""
    options, writes, kills = OPTIONS[name], 0, 0
    for method in WRITING:
        write = getattr(optuna.storages.RDBStorage, method)

        def watched(self, *arguments, write=write, **words):
            nonlocal writes
            writes += 1
            if writes > 1 + kills % 2:
                raise Killed
            return write(self, *arguments, **words)

        monkeypatch.setattr(optuna.storages.RDBStorage, method, watched)
    while True:
        writes = 0
        try:
            _search(judge := _opened(tmp_path / "optuna.db", options), trials=8)
            break
        except Killed:
            kills += 1
    assert kills > 20
    assert _facts(judge.study) == _by_optuna(options, trials=8)


def test_options_of_pruners_by_default():
    shipped = OmegaConf.load(Path(__file__).parents[2] / "conf/hydra/sweeper/optuna.yaml")
    for name in OPTIONS:
        cfg = OmegaConf.create({"sweep": {"pruner": name}, "hydra": {"sweeper": shipped}})
        options = pruner_options(cfg)
        assert options["name"] == name
        for epochs in (1, 2, 300):
            build_pruner(options, epochs)
    # 300 epochs: judged after 33, 100; and after 18, 72, 288
    hyperband = build_pruner(pruner_options(cfg), 300)
    assert (hyperband._min_resource, hyperband._max_resource, hyperband._n_brackets) == (33, 300, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep.pruner=medain"], "sweep.pruner=medain: must be one of median, successive_halving"),
        (["data.validation=0"], "data.validation=0: a search needs validation images"),
        (["epochs=2,4"], "epochs=2,4: must have one value with sweep.pruner"),
        (["budget=20epochs", "epochs=null"], "budget=20epochs: cannot be used with sweep.pruner"),
        (["trainer=ddp_cpu"], "trainer.devices=2: must be 1 with sweep.pruner"),
        (["hydra/sweeper=basic"], "sweep.pruner=median: is for a search; type hydra/sweeper=optuna"),
        (
            ["hydra.sweeper.pruners.median.startup_trials=-1"],
            "hydra.sweeper.pruners.median.startup_trials=-1: must be a whole number, 0 or more",
        ),
        (
            ["+hydra.sweeper.pruners.median.startup=1"],
            "hydra.sweeper.pruners.median.startup: a sweep has no such option; did you mean",
        ),
    ],
)
def test_what_cannot_be_pruned_is_one_message(words, said, typed):
    names = {word.partition("=")[0].lstrip("+") for word in words}
    kept = [word for word in SEARCH if word.partition("=")[0] not in names]
    if "hydra/sweeper=basic" in words:
        kept = [word for word in kept if "interval" not in word]
        words = ["sweep.pruner=median"]
    status, message = typed(*kept, *words)
    assert status == 1
    assert message.startswith(f"densenet-run: {said}"), message
    assert message.count("\n") == 1
    assert not Path("outputs").exists()


def test_a_pruned_trial(typed, monkeypatch):
    """It has its own state everywhere, keeps no checkpoint, and is not run again."""
    asked = []

    def prunes(judge, number, errors, epoch):
        judge.report(number, errors)
        asked.append((number, epoch))
        return number == 1

    monkeypatch.setattr(Judge, "prunes", prunes)
    words = [*SEARCH, "hydra.sweeper.trials=2", "+trainer.limit_train_batches=2"]
    status, said = typed(*words)
    assert status == 0, said
    assert asked == [(0, 1), (1, 1)]  # not after the last epoch
    records = {
        path.parent: json.loads(path.read_text()) for path in Path().glob("outputs/*/*/run.json")
    }
    (pruned,) = (folder for folder, record in records.items() if record["state"] == "pruned")
    assert records[pruned]["epoch"] == 1
    assert records[pruned]["results"] == {}
    assert list((pruned / "checkpoints").iterdir()) == []
    (done,) = records.keys() - {pruned}
    assert (done / "checkpoints/last.ckpt").exists()

    storage = optuna.storages.RDBStorage("sqlite:///outputs/mine/optuna.db")
    trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED"]
    assert [list(trial.intermediate_values) for trial in trials] == [[1, 2], [1]]
    assert trials[0].value == records[done]["results"]["validation_error_last"]

    before = (pruned / "run.json").read_bytes()
    status, said = typed(*words)
    assert status == 0, said
    assert len(asked) == 2
    assert (pruned / "run.json").read_bytes() == before
    with pytest.raises(UserError, match="was ended early by its search, and keeps no checkpoint"):
        is_resumed(pruned, {}, "resume")
    status, said = typed(*(word for word in words if "pruner" not in word))
    assert status == 1
    assert "contains a search over other values, or with other options" in said


@pytest.mark.slow
def test_two_processes_of_two_workers_share_a_search(tmp_path):
    words = [sys.executable, "-m", "densenet_cli.commands.run", *SEARCH, "epochs=6"]
    words += ["sweep.pruner=hyperband", "hydra.sweeper.trials=12", "+trainer.limit_train_batches=4"]
    words += ["hydra/launcher=parallel", "hydra.launcher.jobs=2"]
    words += ["hydra.sweeper.pruners.hyperband.first_epoch=1"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(words, cwd=tmp_path, **options) for _ in range(2)]
    said = [process.communicate(timeout=280)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/outputs/mine/optuna.db")
    trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    records = [RunRecord.read(path.parent).fields for path in tmp_path.glob("outputs/mine/*/run.json")]
    assert len(trials) == len(records) == 12
    states = {"COMPLETE": "done", "PRUNED": "pruned"}
    assert {trial.state.name for trial in trials} == states.keys()
    for trial in trials:
        (record,) = (record for record in records if _is_of(record, trial.params))
        assert record["state"] == states[trial.state.name]
        assert list(trial.intermediate_values) == list(range(1, record["epoch"] + 1))


@pytest.mark.slow
@pytest.mark.parametrize("pruner", OPTIONS)
def test_a_search_that_is_killed_again_and_again_decides_the_same(pruner, tmp_path):
    words = [sys.executable, "-m", "densenet_cli.commands.run", *SEARCH, f"sweep.pruner={pruner}"]
    words += ["hydra.sweeper.trials=8", "epochs=6", f"hydra.sweeper.pruners.{pruner}.first_epoch=1"]
    words += ["+trainer.limit_train_batches=4"]
    words += ["hydra.sweeper.pruners.median.startup_trials=2"] if pruner == "median" else []
    found = {}
    for name in ("unbroken", "broken"):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "output").open("a") as output:
            for kill in range(40):
                process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output)
                if name == "broken" and kill < 6:
                    time.sleep(7 + 1.3 * kill)
                    process.send_signal(signal.SIGKILL if kill % 2 else signal.SIGINT)
                if process.wait() == 0:
                    break
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/outputs/mine/optuna.db")
        found[name] = _facts(optuna.load_study(study_name=STUDY, storage=storage))
        records = [
            RunRecord.read(path.parent).fields for path in folder.glob("outputs/mine/*/run.json")
        ]
        assert {record["state"] for record in records} == {"done", "pruned"}
        for record in records:
            epochs = [values for _, params, values, *_ in found[name] if _is_of(record, params)]
            assert all(len(values) == record["epoch"] for values in epochs)
    assert found["broken"] == found["unbroken"]


def _is_of(record, params):
    rate = record["config"]["recipe"]["optimizer"]["lr"]
    return rate == pytest.approx(params["recipe.optimizer.lr"], rel=1e-9)
