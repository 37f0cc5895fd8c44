"""densenet-run as a user types it: help, configuration, mistakes, folders of one's own."""

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from tiny_run import TINY

from densenet_cli.commands.run import main
from densenet_cli.commands.run_help import first_comment, text
from densenet_cli.config.compose import CONF, composing


def test_help_names_every_choice_and_gives_examples(command):
    answer = command("--help")
    assert answer.returncode == 0, answer.stderr
    shown = answer.stdout.replace(",", " ").split()
    for path in CONF.glob("[!h]*/**/*.yaml"):  # not those of Hydra
        assert path.stem in shown, path
    for group in ("model", "model=history/", "data", "recipe", "trainer", "experiment", "logger"):
        assert f"\n  {group} " in answer.stdout
    assert "densenet-run --multirun" in answer.stdout


@pytest.mark.parametrize("path", sorted((CONF / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_help_says_what_each_sweep_is(path):
    comment = first_comment(path)
    assert len(comment) > 40
    assert not comment.endswith((".", ",", ";"))  # the whole of what its file says first
    with composing():
        assert " ".join([path.stem, *comment.split()]) in " ".join(text(None, []).split())


def test_help_shows_the_choices_and_the_options_that_are_typed(command, tmp_path):
    (tmp_path / "mine/sweep").mkdir(parents=True)
    (tmp_path / "mine/sweep/own.yaml").write_text("# Mine: 2 runs\nname: own\n")
    answer = command("--help", "--config-dir=mine", "seed=7")
    assert answer.returncode == 0, answer.stderr
    assert "Mine: 2 runs" in answer.stdout
    assert re.search(r"\n  seed: 7 +# of the initial weights", answer.stdout)


def test_help_says_what_each_option_of_the_papers_experiment_is():
    with composing():
        shown = text(None, [])
    options = shown[shown.index("Options (") : shown.index("More\n")]
    bare = re.findall(r"^ +(\w+): (?!.*# )\S", options, re.MULTILINE)
    assert sorted(bare) == ["_target_", "_target_", "_target_", "divisor", "logger", "momentum"]


def test_comments_are_those_of_the_choices_that_are_made(tmp_path):
    own = tmp_path / "mine/model/wide.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [densenet_bc, _self_]\ngrowth_rate: 32 # more than the paper's\n")
    with composing(str(tmp_path / "mine")) as search_path:
        shown = text(str(tmp_path / "mine"), [*search_path, "model=wide", "recipe=one_cycle"])
    lines = {line.partition("#")[0].strip(): line.partition("# ")[2] for line in shown.splitlines()}
    assert lines["growth_rate: 32"] == "more than the paper's"
    assert lines["depth: 100"].startswith(
        "L: 3n + 4"
    )  # of densenet.yaml, on which densenet_bc is based
    assert lines["batch_size: 64"] == "over all devices"
    assert max(map(len, shown[shown.index("Options (") : shown.index("More\n")].splitlines())) <= 100


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["model=densenet_bc_10"]])
def test_torch_is_not_loaded_before_a_run_starts(arguments, tmp_path):
    program = (
        "import sys; sys.argv = ['densenet-run', *sys.argv[1:]]\n"
        "from densenet_cli.commands.run import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, check=False)
    assert answer.returncode == 0


def test_the_bare_command_is_the_papers_main_experiment(config):
    bare = config()
    assert bare == config("model=densenet_bc_100", "data=cifar10", "recipe=paper_cifar")
    assert (bare["model"]["growth_rate"], bare["model"]["depth"]) == (12, 100)
    assert bare["epochs"] == 300
    assert bare["data"]["batch_size"] == 64


MISTAKES = [  # what is typed, and what the one message must hold
    ("model.growht_rate=12", ["model.growht_rate=12", "did you mean model.growth_rate=12?"]),
    ("epoch=3", ["epoch=3", "did you mean epochs=3?"]),
    ("model=densenet_bc_1000", ["model=densenet_bc_1000", "did you mean model=densenet_bc_100?"]),
    ("recipe=paper_cifar10", ["did you mean recipe=paper_cifar?"]),
    ("model.growth_rate=abc", ["model.growth_rate=abc", "whole number", "model.growth_rate=12"]),
    ("model.depth=41", ["model.depth=41", "6n + 4", "model.depth=40"]),
    ("model.compression=0", ["model.compression=0", "above 0 and at most 1", "=0.5"]),
    ("model.compression=1.5", ["model.compression=1.5", "above 0 and at most 1", "=0.5"]),
    ("model.block_config=8", ["model.block_config=8", "list"]),
    ("epochs=-1", ["epochs=-1", "whole number, 1 or more", "epochs=300"]),
    ("epochs=many", ["epochs=many", "whole number"]),
    ("seed=-1", ["seed=-1", "0 or more"]),
    ("task=trian", ["task=trian", "train, test", "task=train"]),
    ("task=test", ["checkpoint=null", "task=test"]),
    ("checkpoint=x.ckpt", ["checkpoint=x.ckpt", "resume="]),
    ("checkpoint_minutes=0", ["checkpoint_minutes=0", "above 0"]),
    ("data.batch_size=0", ["data.batch_size=0", "1 or more"]),
    ("data.validation=99999", ["data.validation=99999"]),
    ("data.augment=perhaps", ["data.augment=perhaps", "true or false"]),
    ("recipe.report=worst", ["recipe.report=worst", "last, best"]),
    ("recipe.optimizer.lr=fast", ["recipe.optimizer.lr=fast", "above 0"]),
    ("recipe.label_smoothing=1", ["recipe.label_smoothing=1", "below 1"]),
    ("recipe.gradient_clip=0", ["recipe.gradient_clip=0", "above 0"]),
    ("recipe.ema_decay=1", ["recipe.ema_decay=1", "below 1"]),
    ("recipe.ema_share=1", ["recipe.ema_share=1", "below 1"]),
    ("recipe.ema_decay=0.9 recipe.ema_share=0.1", ["recipe.ema_share=0.1", "says the same"]),
    ("recipe.mixup=-1", ["recipe.mixup=-1", "at least 0"]),
    ("data.randaugment=99", ["data.randaugment=99", "from 1 to 30"]),
    ("recipe.optimizer._target_=torch.optim.Adamm", ["torch.optim.Adamm", "can be imported"]),
    ("recipe.optimizer._target_=torch.optim.AdamW", ["momentum", "~recipe.optimizer.momentum"]),
    ("trainer.precision=float", ["trainer.precision=float", "bf16-mixed"]),
    ("trainer.precision=16-mixed", ["trainer.precision=16-mixed", "is for GPUs", "=auto"]),
    ("++trainer.enable_model_summary=true", ["enable_model_summary=true", "densenet-model summary"]),
    ("trainer.accelerator=gppu", ["trainer.accelerator=gppu"]),
    ("trainer.accelerator=mps", ["trainer.accelerator=mps", "no such device", "=cpu"]),
    ("trainer.sync_batchnorm=true", ["trainer.sync_batchnorm=true", "GPUs only"]),
    ("trainer.cuda_graphs=true", ["trainer.cuda_graphs=true", "the device cpu", "=auto"]),
    ("trainer.cuda_graphs=often", ["trainer.cuda_graphs=often", "auto, true, false"]),
    ("++trainer.limit_trian_batches=3", ["did you mean trainer.limit_train_batches?"]),
    ("++trainer.max_epochs=3", ["trainer.max_epochs=3", "epochs="]),
    ("+model.zzz=1", ["model.zzz=1", "no such option"]),
    ("model.growth_rate=12,24", ["model.growth_rate", "--multirun", "model.growth_rate=[...]"]),
    ("+resume=nowhere", ["nowhere", "no such folder"]),
    ("resume=", ["resume=: has no value"]),
    ("hydra.run.dir=", ["hydra.run.dir=: has no value"]),
    ("seed=4294967296", ["seed=4294967296", "32 bits"]),
    ("model=5", ["densenet-run: model=5: must name a choice; densenet-run --help"]),
    ("logger=null", ["densenet-run: logger=null: must name a choice: csv, mlflow"]),
    (
        "/",
        ["densenet-run: /: cannot be read as key=value; photos are data=image_folder data.root=/"],
    ),
    ("=3", ["densenet-run: =3: cannot be read as key=value"]),
    ("recipe=paper", ["there are paper_cifar, paper_imagenet, paper_svhn\n"]),
    ("sweep=paper_table2", ["paper_table2_c10, paper_table2_c100, ", "paper_table2_svhn"]),
    (
        "model=resnet_20 model.growth_rate=4",
        ["option of model=densenet, model=densenet_121, ", " others"],
    ),
    ("model/history=lenet_5", ["did you mean model=history/lenet_5?"]),
    ("model=history/lenet_55", ["did you mean model=history/lenet_5?"]),
    ("model=lenet_5", ["did you mean model=history/lenet_5?"]),
    ("model=history/x", ["model=history/x: there is no such choice; densenet-run --help"]),
    ("logger=x", ["logger=x: there is no such choice; there are csv, mlflow"]),
    ("hydra/job_logging=x", ["hydra/job_logging=x: nothing reads this option of Hydra's"]),
    ("hydra.job.chdir=true", ["hydra.job.chdir=true: nothing reads this option of Hydra's"]),
    ("~trainer", ["trainer=null", "section"]),
    ("~recipe.schedule", ["recipe.schedule is missing"]),
    ("~model.depth", ["model", "depth"]),
    ("next_steps=5", ["next_steps", "list"]),
    ("++trainer.limit_train_batches=-1", ["trainer.limit_train_batches=-1"]),
    ("++trainer.overfit_batches=2", ["trainer.overfit_batches=2", "limit_train_batches"]),
    ("recipe=one_cycle recipe.schedule.pct_start=7", ["recipe.schedule"]),
    ("task=test checkpoint=.", ["checkpoint=.", "is a folder"]),
    ("epochs=${foo}", ["foo"]),
    ("resume=nowhere", ["nowhere", "no such folder"]),
    ("k=13", ["k=13: there is no such option; did you mean model.growth_rate=13?"]),
    ("model.L=40", ["did you mean model.depth=40?"]),
    ("gpus=2", ["did you mean trainer.devices=2?"]),
    ("model.name=vgg16", ["it is an option of model=timm, model=torchvision"]),
    ("data.table=labels.csv", ["it is an option of data=image_table"]),
    ("recipe.optimizer.weight_decay=-1", ["recipe.optimizer.weight_decay=-1", "Invalid weight_decay"]),
    ("model.block_config=[6, 12]", ["or use quotes: 'model.block_config=[6, 12]'"]),
    ("seed = 3", ["seed: cannot be read as key=value; write it without spaces: seed=3"]),
    ("resnet_20", ["resnet_20: cannot be read as key=value; did you mean model=resnet_20?"]),
    ("model=torchvision model.name=alexnet", ["cannot take images of 8 x 8 pixels"]),
    ("model=torchvision model.name=vgg16_nb", ["model.name=vgg16_nb", "vgg16_bn"]),
]


@pytest.mark.parametrize(("arguments", "parts"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
def test_a_mistake_is_answered_by_one_message(arguments, parts, typed):
    key = arguments.lstrip("~").partition("=")[0]
    tiny = [one for one in TINY if one.partition("=")[0] != key]
    if arguments.startswith(("model=", "~model", "~trainer")):
        tiny = [one for one in tiny if not one.startswith("model.")]
    status, message = typed(*tiny, *arguments.split(" "))
    assert status == 1
    assert message.startswith("densenet-run: ")
    assert message.count("densenet-run: ") == 1
    assert "Traceback" not in message
    for part in parts:
        assert part in message


def test_flags_may_stand_between_the_overrides(command):
    answer = command("experiment=quickstart", "--cfg", "job", "seed=7")
    assert answer.returncode == 0, answer.stderr
    assert "seed: 7" in answer.stdout


@pytest.mark.parametrize(
    ("flags", "parts", "others"),
    [
        (["--cfg=job"], ["seed: 7\n", "epochs: ${recipe.epochs}"], ["hydra:"]),
        (["--cfg", "job", "--resolve"], ["epochs: 300\n"], ["${recipe"]),
        (["--cfg", "hydra", "-p", "hydra.sweep"], ["dir: outputs/${sweep.name}"], ["seed:"]),
        (["-c", "all"], ["seed: 7\n", "hydra:\n"], []),
        (["--cfg=job", "--package=seed"], ["7\n"], [":"]),
    ],
    ids=str,
)
def test_the_configuration_is_shown(flags, parts, others, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["densenet-run", "seed=7", *flags])
    with pytest.raises(SystemExit) as ending:
        main()
    shown = capsys.readouterr().out
    assert ending.value.code == 0
    assert all(part in shown for part in parts)
    assert not any(part in shown for part in others)


@pytest.mark.parametrize(
    ("flags", "status", "part"),
    [
        (["--foo"], 2, "densenet-run: error: unrecognized arguments: --foo"),
        (["--seed=3"], 2, "--seed=3; options are typed without dashes, as epochs=10"),
        (["--cfg", "--seed=1"], 2, "argument --cfg/-c: expected one argument"),
        (["--cfg=job", "--multirun"], 2, "not allowed with argument"),
        (["--cfg=job", "--package=modle"], 1, "--package=modle: the configuration has no such section"),
        (["--config-dir=nowhere"], 1, "--config-dir=nowhere: there is no such folder"),
        (["--config-dir=.", "resume=."], 1, "resume=.: a run is resumed without --multirun"),
    ],
    ids=str,
)
def test_a_wrong_flag_is_answered_by_one_message(flags, status, part, typed):
    found, message = typed(*flags)
    assert found == status
    assert part in message


@pytest.mark.parametrize("arguments", [["--info", "defaults"], ["--hydra-help"]], ids=" ".join)
def test_hydra_answers_what_is_asked_about_it(arguments, command):
    answer = command(*arguments)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout


def test_the_version_is_that_of_this_package(command):
    assert command("--version").stdout == f"densenet-cli {metadata.version('densenet-cli')}\n"


def test_hydra_names_the_folders_of_a_run_to_its_options(typed, tmp_path):
    arguments = [*TINY, "epochs=1", "data=digits", "next_steps=['${hydra:runtime.cwd}']"]
    assert typed(*arguments, "hydra.run.dir=outputs/run") == (0, "")
    assert f"- {tmp_path}\n" in (tmp_path / "outputs/run/config.yaml").read_text()


def test_a_folder_that_cannot_be_made_is_named(typed, tmp_path):
    (tmp_path / "file").write_text("")
    status, message = typed(*TINY, "hydra.run.dir=file/x")
    assert (status, message.count("\n")) == (1, 1)
    assert "file/x: cannot be read or written: Not a directory" in message


def test_a_misspelt_option_leaves_no_folder(typed, tmp_path):
    assert typed(*TINY, "+epoch=1")[0] == 1
    assert not (tmp_path / "outputs").exists()


def test_the_overrides_are_recorded_as_typed(typed, tmp_path):
    arguments = [*TINY, "epochs=1", "data.seed=${seed}"]
    assert typed(*arguments, "hydra.run.dir=outputs/run")[0] == 0
    assert "${seed}" in (tmp_path / "outputs/run/overrides.yaml").read_text()


def test_hydra_full_error_shows_the_traceback(command):
    answer = command(*TINY, "epochs=-1", HYDRA_FULL_ERROR="1")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


def test_two_runs_never_share_a_folder(command):
    first = command(*TINY, "hydra.run.dir=outputs/mine", "epochs=1")
    assert first.returncode == 0, first.stderr
    again = command(*TINY, "hydra.run.dir=outputs/mine", "epochs=2")
    assert again.returncode == 1
    assert "holds a run already (done)" in again.stderr
    assert "resume=" in again.stderr
    assert again.stderr.count("\n") == 1


def test_folders_of_one_second_differ():
    from densenet_cli.config.resolvers import run_folder

    assert len({run_folder() for _ in range(50)}) == 50


def test_completion_knows_groups_and_keys(command):
    answer = command("-sc", "query=bash", COMP_LINE="densenet-run model=densenet_bc_1", COMP_POINT="35")
    assert "model=densenet_bc_100" in answer.stdout.split()
    assert os.path.exists(sys.executable)


def test_a_config_folder_of_ones_own_adds_choices(command, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /model: resnet_20, override /data: digits, override /recipe: one_cycle]\n"
        "epochs: 7\n"
    )
    answer = command("--config-dir=mine", "experiment=own", "--cfg", "job")
    assert answer.returncode == 0, answer.stderr
    assert "epochs: 7" in answer.stdout
    assert "Digits" in answer.stdout


@pytest.mark.parametrize("arguments", [("--cfg", "job"), ("--multirun", "plan=true")])
def test_a_choice_of_ones_own_does_not_hide_behind_one_of_ours(arguments, command, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    own = tmp_path / "mine/model/resnet_20.yaml"
    own.write_text("_target_: torch.nn.Identity\n")
    answer = command("--config-dir=mine", "model=resnet_20", *arguments)
    assert answer.returncode == 1
    assert (
        "--config-dir=mine: model/resnet_20.yaml: densenet-cli has a file of this name" in answer.stderr
    )
    assert "rename yours, as to model/resnet_20_mine.yaml" in answer.stderr
    own.write_text((CONF / "model/resnet_20.yaml").read_text())  # a copy hides nothing
    assert command("--config-dir=mine", "model=resnet_20", "--cfg", "job").returncode == 0


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("sweep.jobs=5", "sweep.jobs=5: must be a list of lines"),
        ("sweep.name=../x", "must name a folder below outputs/"),
        ("sweep.fail_fast=maybe", "must be true or false"),
        ("hydra.sweep.subdir=x", "a sweep has no such option"),
        ("hydra.launcher.jobs=3", "hydra.launcher.jobs"),
        ("plan=maybe", "plan=maybe: must be true or false"),
        ("plan=0", "plan=0: must be true or false"),
        ("seeds=0", "seeds=0: must be a whole number"),
    ],
)
def test_an_override_about_sweeps_makes_one_without_multirun(argument, answer, typed):
    """A sweep is composed, which refuses the override; no run of 300 epochs starts."""
    status, message = typed(argument)
    assert status == 1
    assert answer in message


@pytest.mark.parametrize(
    "argument", ["plan=False", "plan=false", "plan=FALSE", "plan='False'", "plan=null"]
)
def test_plan_false_makes_no_sweep(argument, typed):
    assert typed(*TINY, argument, "epochs=-1")[1].startswith("densenet-run: epochs=-1: must be")


def test_a_file_about_several_runs_needs_multirun(typed, tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    own = tmp_path / "mine/experiment/own.yaml"
    for content, name in (
        ("sweep: {jobs: [seed=1]}", "sweep.jobs=[seed=1]"),
        ("sweep: {name: mine}", "sweep.name=mine"),
        ("sweep: {fail_fast: true}", "sweep.fail_fast=true"),
        ("seeds: 3", "seeds=3"),
        ("plan: true", "plan=true"),
        ("hydra: {sweeper: {params: {seed: '0,1'}}}", "hydra.sweeper.params={'seed': '0,1'}"),
        ("defaults: [override /hydra/launcher: parallel]", "hydra/launcher=parallel"),
        ("defaults: [override /hydra/sweeper: optuna]", "hydra/sweeper=optuna"),
        ("hydra: {mode: MULTIRUN}", "hydra.mode=MULTIRUN"),
    ):
        own.write_text(f"# @package _global_\n{content}\n")
        status, message = typed("--config-dir=mine", "experiment=own")
        assert status == 1
        assert f"{name}: is for several runs; type --multirun too" in message
