"""From the folder of a run or a sweep, only what densenet-cli lists or the user trusts is built."""

import inspect
import json
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny_run import TINY

from densenet_cli.commands import model as model_cli
from densenet_cli.config.compose import CONF
from densenet_cli.config.trust import TARGETS, Trust, check_stored_overrides, trust_override
from densenet_cli.inference import trained_network
from densenet_cli.options import UserError

PLANTED = "planted.Network"
NESTED = {"_target_": "torch.load", "f": "evil.pkl", "weights_only": False}
# What is planted in a run's folder, and what the message must name.
ATTACKS = [
    ("model", {"_target_": "torch.load", "f": "evil.pkl", "weights_only": False}, "torch.load"),
    ("model", {"_target_": PLANTED}, "trust=planted.Network"),
    ("model", {"block_config": NESTED}, "model.block_config._target_=torch.load"),
    ("model", {"block_config": [1, [NESTED]]}, "model.block_config.1.0._target_=torch.load"),
    ("model", {"block_config": {"a": 1}}, "model.block_config={'a': 1}: must be a plain value"),
    ("model", {"_target_": "torchvision.models.list_models"}, "torchvision.models.list_models"),
    ("model", {"_target_": "torchvision.models.densenet.torch.load"}, "torch.load"),
    ("model", {"_target_": "densenet_cli.models.densenet:DenseNet"}, "densenet:DenseNet"),
    ("model", {"_target_": "densenet_cli.models.densenet.DenseNet.forward"}, "forward"),
    ("model", {"_target_": ["torch.load"]}, "model._target_=[torch.load]"),
    ("model", {"_target_": None}, "model._target_"),
    ("model", {"_args_": [NESTED]}, "model._args_"),
    ("model", {"_partial_": True}, "model._partial_"),
    ("data", {"_target_": "densenet_cli.data.download.fetch"}, "densenet_cli.data.download.fetch"),
    ("data", {"_target_": "torch.optim.SGD"}, "torch.optim.SGD"),
    ("recipe.optimizer", {"_target_": "torch.optim.lr_scheduler.warnings.sys.exit"}, "sys.exit"),
    ("recipe.schedule", {"_target_": "torch.hub.load"}, "torch.hub.load"),
    ("recipe.schedule", {"milestones": NESTED}, "recipe.schedule.milestones._target_"),
    ("recipe.schedule", {"schedulers": [NESTED]}, "torch.load"),
    ("recipe.schedule", {"schedulers": [{"schedulers": [NESTED]}]}, "recipe.schedule._target_=null"),
    ("recipe.schedule", {"schedulers": NESTED}, "torch.load"),
    ("recipe.schedule", {"schedulers": ["torch.load"]}, "must be a list of schedules"),
    ("logger", {"_target_": "os.system"}, "os.system"),
    (
        "logger",
        {"_target_": "lightning.pytorch.loggers.WandbLogger", "settings": {}},
        "logger.settings",
    ),
]


class Evil:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("EXECUTED"),)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("whole")
    overrides = [
        sys.executable,
        "-m",
        "densenet_cli.commands.run",
        *TINY,
        "epochs=1",
        "hydra.run.dir=run",
    ]
    subprocess.run(overrides, cwd=folder, check=True, timeout=200)
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of a run to plant things in; the file EXECUTED exists if their code was executed."""
    (tmp_path / "planted.py").write_text(
        "open('EXECUTED', 'w')\nfrom torch.nn import Identity as Network"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    shutil.copytree(finished, "outputs/run")
    return tmp_path / "outputs/run"


def _plant(folder, section, options):
    record = json.loads((folder / "run.json").read_text())
    node = record["config"]
    for name in section.split("."):
        node = node[name]
    node |= options
    (folder / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    (folder / "config.yaml").write_text(yaml.safe_dump(record["config"]))


@pytest.mark.parametrize(("section", "options", "named"), ATTACKS)
def test_what_is_planted_in_a_runs_folder_is_refused(section, options, named, run, typed):
    _plant(run, section, options)
    status, message = typed("resume=outputs/run")
    assert (status, message.count("\n")) == (1, 1)
    assert named in message
    assert "outputs/run" in message
    if section in ("model", "data"):
        with pytest.raises(UserError, match="outputs/run"):
            trained_network.load(run)
    assert not Path("EXECUTED").exists()


OVERRIDES = [  # in overrides.yaml, or among the commands of a sweep.yaml
    ("model._target_=planted.Network", "model._target_=planted.Network"),
    ("model.block_config={_target_: torch.load, f: evil.pkl, weights_only: false}", "torch.load"),
    ("model.block_config=${oc.decode:x}", "calls a function"),
    ("model.block_config=${oc.env:HOME}", "calls a function"),
    ("++hydra.callbacks.a._target_=planted.Network", "may run a program"),
    ("hydra.searchpath=[file://mine]", "may run a program"),
    ("hydra.job_logging.root.level=1", "may run a program"),
    ("+hydra.launcher.setup=[touch EXECUTED]", "may run a program"),
    ("+hydra.job.env_set.PATH=here", "may run a program"),
    ("model=../../planted", "outside the configuration folder"),
    ("experiment=/planted", "outside the configuration folder"),
    ("+model@hydra.launcher=timm", "into another section"),
    ("--config-dir=mine", "cannot be read"),
]


@pytest.mark.parametrize(("override", "named"), OVERRIDES)
def test_the_overrides_in_a_folder_are_refused(override, named, run, typed):
    (run / "overrides.yaml").write_text(yaml.safe_dump([*TINY, override]))
    status, message = typed("task=test", "checkpoint=outputs/run/checkpoints/last.ckpt")
    assert (status, message.count("\n")) == (1, 1)
    assert named in message
    sweep = Path("outputs/sweep")
    sweep.mkdir()
    (sweep / "sweep.yaml").write_text(yaml.safe_dump({"commands": [[*TINY, override]], "jobs": []}))
    for more in ([], ["plan=true"]):
        status, message = typed("resume=outputs/sweep", *more)
        assert status == 1
        assert named in message
    assert not Path("EXECUTED").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["sweep.jobs=['model._target_=planted.Network']"],
        ["sweep.jobs=['model=densenet ++hydra.job.env_set.PATH=here']"],
        ["hydra.sweeper.params={model._target_: planted.Network}"],
        ["task=test", "checkpoint=outputs/run/checkpoints/last.ckpt"],
        ["hydra/sweeper=optuna", "data.validation=99", "model._target_=planted.Network,x.Y"],
        ["hydra/sweeper=optuna", "data.validation=99", "+logger._target_=planted.Network", "seed=0,1"],
    ],
)
def test_the_file_of_a_sweep_is_checked_as_strictly(overrides, run, typed):
    (run / "overrides.yaml").write_text(yaml.safe_dump([*TINY, "model._target_=planted.Network"]))
    sweep = Path("outputs/sweep")
    sweep.mkdir()
    (sweep / "sweep.yaml").write_text(yaml.safe_dump({"commands": [[*TINY, *overrides]], "jobs": []}))
    status, message = typed("resume=outputs/sweep")
    assert status == 1
    assert "outputs/" in message
    assert "Traceback" not in message
    assert not Path("EXECUTED").exists()


def test_what_the_user_trusts_by_name_is_built(run, typed, monkeypatch, capsys):
    (run.parent.parent / "mine.py").write_text(
        "from densenet_cli.models.densenet import DenseNet as Net\n"
    )
    _plant(run, "model", {"_target_": "mine.Net"})
    overrides = [*TINY, "epochs=1", "model._target_=mine.Net"]
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"overrides": overrides}))
    (run / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    checkpoint = "checkpoint=outputs/run/checkpoints/last.ckpt"
    for overrides in (["resume=outputs/run"], ["task=test", checkpoint]):
        status, message = typed(*overrides, "trust=other")
        assert status == 1
        assert "if you trust it, type trust=mine.Net too" in message
        assert typed(*overrides, "trust=other,mine")[0] == 0
    assert (
        typed("task=test", checkpoint, "model._target_=mine.Net")[0] == 0
    )  # what is typed is not checked
    assert trained_network.load(run, trust=Trust(("mine.Net",))).image_size == (8, 8)
    with pytest.raises(UserError, match=r"type --trust mine\.Net too"):
        trained_network.load(run, trust=Trust(("min",), how="--trust "))
    monkeypatch.setattr("sys.argv", ["densenet-model", "export", str(run), "--format", "safetensors"])
    with pytest.raises(SystemExit, match=r"type --trust mine\.Net too"):
        model_cli.main()


@pytest.mark.parametrize(
    ("overrides", "typed", "expected"),
    [
        ([], [], []),
        (["model._target_=mine.Net"], [], ["trust=mine.Net"]),
        (["model._target_=mine.Net", "+logger._target_=a.B"], [], ["trust=mine.Net,a.B"]),
        (["model._target_=mine.Net"], ["model._target_=mine.Net"], []),
        (["+model._args_=[1]"], [], []),  # is never taken from a file
    ],
)
def test_the_hint_to_resume_names_what_must_be_trusted(config, overrides, typed, expected):
    trust = Trust.of((), typed, None)
    assert trust_override(config(*TINY, *overrides), trust) == expected


def test_a_run_with_choices_of_ones_own_is_tested(typed, tmp_path):
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/own.yaml").write_text(
        "_target_: torchvision.models.densenet.DenseNet\nblock_config: [1]\nnum_init_features: 8\n"
    )
    overrides = ["--config-dir=mine", "experiment=quickstart", "model=own", "epochs=1", "trainer=cpu"]
    assert typed(*overrides, "hydra.run.dir=outputs/run")[0] == 0
    tested = ["task=test", "checkpoint=outputs/run/checkpoints/last.ckpt", "hydra.run.dir=outputs/test"]
    status, message = typed(*tested, "--config-dir=mine")
    assert status == 0, message


@pytest.mark.slow
def test_the_end_of_a_sweep_says_how_to_resume_with_choices_of_ones_own(command, typed, tmp_path):
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/own.yaml").write_text("_target_: mine.Net\n")
    overrides = ["--config-dir=mine", "experiment=quickstart", "model=own", "sweep.name=own"]
    answer = command("--multirun", *overrides)  # there is no mine.Net
    (hint,) = (line for line in answer.stdout.splitlines() if "resume with: " in line)
    said = shlex.split(hint.removeprefix("resume with: "))
    assert said == ["densenet-run", "resume=outputs/own", "--config-dir=mine"]
    status, message = typed(*said[1:])
    assert status == 1
    assert message.startswith("densenet-run: 1 run in outputs/own\n")  # it is tried again


@pytest.mark.parametrize("name", ["os.system", "_target_=os.system"])
def test_no_folder_is_trusted_for_its_name(name):
    assert not Trust.of([], [f"resume={name}", f"checkpoint={name}/a.ckpt", "epochs=1"], None).covers(
        "os.system"
    )


@pytest.mark.parametrize(
    "override", ["model._target_=a.Net", "+model={_target_:a.Net}", "m={'_target_': 'a.Net'}"]
)
def test_a_typed_target_is_trusted(override):
    assert Trust.of([], [override], None).covers("a.Net")


def test_trust_is_refused_where_no_folder_is_read(typed):
    status, message = typed(*TINY, "trust=mine")
    assert status == 1
    assert "trust=mine: only resume= and task=test read it" in message


def test_choices_of_ones_own_are_typed_again(typed, tmp_path):
    (tmp_path / "mine/recipe").mkdir(parents=True)
    (tmp_path / "mine/recipe/brief.yaml").write_text("defaults: [one_cycle]\nepochs: 1\n")
    (tmp_path / "outputs/own").mkdir(parents=True)
    command = ["hydra.searchpath=[file://mine]", *TINY, "recipe=brief"]
    content = {"commands": [command], "jobs": []}
    (tmp_path / "outputs/own/sweep.yaml").write_text(yaml.safe_dump(content))
    status, message = typed("resume=outputs/own")
    assert status == 1
    assert "hydra.searchpath=" in message
    assert "type it too, or --config-dir" in message
    _, message = typed("resume=outputs/own", "--config-dir=mine", "sweep.fail_fast=maybe")
    assert "sweep.fail_fast=maybe" in message  # all that comes before it is right


@pytest.mark.parametrize(
    "override",
    [
        *(
            "model=history/vgg_16",
            "data.root=../x",
            "checkpoint=../a/last.ckpt",
            "~trainer",
            "epochs=3,4",
        ),
        *("+recipe.schedule.T_max=${epochs}", "hydra/launcher=parallel", "hydra.launcher.jobs=2"),
        *(
            "+hydra.sweeper.params.epochs=1,2",
            "hydra.sweeper.trials=3",
            "model.block_config=[1,2]",
        ),
    ],
)
def test_ordinary_overrides_may_be_read_from_files(override):
    check_stored_overrides([override], Path("sweep.yaml"), "type it too")


def test_the_list_holds_all_that_the_configuration_can_build():
    listed = set().union(*TARGETS.values())
    for path in CONF.rglob("*.yaml"):
        if "hydra" not in path.relative_to(CONF).parts:
            content = yaml.safe_load(path.read_text()) or {}
            recipe = [content.get(name, {}) for name in ("optimizer", "schedule")]
            named = {section["_target_"] for section in (content, *recipe) if "_target_" in section}
            assert named <= listed, path


def test_the_list_follows_torch():
    def names(module, base):
        return {
            name for name, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, base)
        }

    optimizers = names(torch.optim, torch.optim.Optimizer) - {"Optimizer"}
    assert {f"torch.optim.{name}" for name in optimizers} <= TARGETS["recipe.optimizer"]
    schedules = names(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler)
    schedules -= {"LRScheduler", "_LRScheduler"}
    schedules -= {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}  # take functions
    assert {f"torch.optim.lr_scheduler.{name}" for name in schedules} <= TARGETS["recipe.schedule"]
    Trust().check({"model": {"_target_": "torchvision.models.resnet18"}}, Path("x"), ["model"])
