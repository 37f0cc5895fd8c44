import os
import subprocess
import sys

import pytest
from tiny_run import TINY

from densenet_cli.config.compose import CONF


def test_help_names_every_group_and_gives_examples(command):
    answer = command("--help")
    assert answer.returncode == 0, answer.stderr
    for group in ("model", "data", "recipe", "trainer", "experiment", "logger"):
        assert f"\n{group}: " in answer.stdout
    assert "densenet-run --multirun" in answer.stdout


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["model=densenet_bc_10"]])
def test_torch_is_not_loaded_before_a_run_starts(words, tmp_path):
    program = (
        "import sys; sys.argv = ['densenet-run', *sys.argv[1:]]\n"
        "from densenet_cli.commands.run import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, check=False)
    assert answer.returncode == 0


def test_the_bare_command_is_the_papers_main_experiment(config):
    bare = config()
    assert bare == config("model=densenet_bc_100", "data=cifar10", "recipe=paper_cifar")
    assert (bare["model"]["growth_rate"], bare["model"]["depth"]) == (12, 100)
    assert bare["epochs"] == 300
    assert bare["data"]["batch_size"] == 64


BAD_WORDS = [  # what is typed, and what the one message must hold
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
    ("model.growth_rate=12,24", ["--multirun"]),
    ("+resume=nowhere", ["nowhere", "no such folder"]),
    ("resume=", ["resume=: has no value"]),
    ("hydra.run.dir=", ["hydra.run.dir=: has no value"]),
    ("seed=4294967296", ["seed=4294967296", "32 bits"]),
    ("model=5", ["model=5"]),
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
    ("model=torchvision model.name=alexnet", ["cannot take images of 8 x 8 pixels"]),
    ("model=torchvision model.name=vgg16_nb", ["model.name=vgg16_nb", "vgg16_bn"]),
]


@pytest.mark.parametrize(("words", "parts"), BAD_WORDS, ids=[words for words, _ in BAD_WORDS])
def test_a_wrong_word_is_answered_by_one_message(words, parts, typed):
    tiny = [word for word in TINY if word.partition("=")[0] != words.lstrip("~").partition("=")[0]]
    if words.startswith(("model=", "~model", "~trainer")):
        tiny = [word for word in tiny if not word.startswith("model.")]
    status, message = typed(*tiny, *words.split(" "))
    assert status == 1
    assert message.startswith("densenet-run: ")
    assert message.count("densenet-run: ") == 1
    assert "Traceback" not in message
    for part in parts:
        assert part in message


def test_flags_may_stand_between_the_words(command):
    answer = command("experiment=quickstart", "--cfg", "job", "seed=7")
    assert answer.returncode == 0, answer.stderr
    assert "seed: 7" in answer.stdout


def test_a_folder_that_cannot_be_made_is_named(typed, tmp_path):
    (tmp_path / "file").write_text("")
    status, message = typed(*TINY, "hydra.run.dir=file/x")
    assert (status, message.count("\n")) == (1, 1)
    assert "cannot be made" in message


def test_the_words_are_recorded_as_typed(typed, tmp_path):
    words = [*TINY, "epochs=1", "data.seed=${seed}"]
    assert typed(*words, "hydra.run.dir=outputs/run")[0] == 0
    assert "${seed}" in (tmp_path / "outputs/run/overrides.yaml").read_text()


def test_the_traceback_is_there_for_who_asks(command):
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


@pytest.mark.parametrize("words", [("--cfg", "job"), ("--multirun", "plan=true")])
def test_a_choice_of_ones_own_does_not_hide_behind_one_of_ours(words, command, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    own = tmp_path / "mine/model/resnet_20.yaml"
    own.write_text("_target_: torch.nn.Identity\n")
    answer = command("--config-dir=mine", "model=resnet_20", *words)
    assert answer.returncode == 1
    assert "--config-dir=mine: model/resnet_20.yaml is the name of another choice" in answer.stderr
    assert "rename it, as to model/resnet_20_mine.yaml" in answer.stderr
    own.write_text((CONF / "model/resnet_20.yaml").read_text())  # a copy hides nothing
    assert command("--config-dir=mine", "model=resnet_20", "--cfg", "job").returncode == 0


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("sweep.jobs=5", "sweep.jobs=5: must be a list of lines"),
        ("sweep.name=../x", "must name a folder below outputs/"),
        ("sweep.fail_fast=maybe", "must be true or false"),
        ("hydra.sweep.subdir=x", "nothing reads such an option in a sweep"),
        ("hydra.launcher.jobs=3", "hydra.launcher.jobs"),
        ("plan=maybe", "plan=maybe: must be true or false"),
        ("plan=0", "plan=0: must be true or false"),
        ("seeds=0", "seeds=0: must be a whole number"),
    ],
)
def test_a_word_about_sweeps_makes_one_without_multirun(word, answer, typed):
    """The word is obeyed, or answered as in a sweep; no run of 300 epochs begins."""
    status, message = typed(word)
    assert status == 1
    assert answer in message


@pytest.mark.parametrize(
    "word", ["plan=False", "plan=false", "plan=FALSE", "plan='False'", "plan=null"]
)
def test_a_plan_that_is_false_is_none(word, typed):
    assert typed(*TINY, word, "epochs=-1")[1].startswith("densenet-run: epochs=-1: must be")


def test_a_file_that_speaks_of_several_runs_needs_multirun(typed, tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    own = tmp_path / "mine/experiment/own.yaml"
    for text, name in (
        ("sweep: {jobs: [seed=1]}", "sweep.jobs=[seed=1]"),
        ("sweep: {name: mine}", "sweep.name=mine"),
        ("sweep: {fail_fast: true}", "sweep.fail_fast=true"),
        ("seeds: 3", "seeds=3"),
        ("plan: true", "plan=true"),
        ("hydra: {sweeper: {params: {seed: '0,1'}}}", "hydra.sweeper.params={'seed': '0,1'}"),
        ("defaults: [override /hydra/launcher: parallel]", "hydra/launcher=parallel"),
        ("defaults: [override /hydra/sweeper: optuna]", "hydra/sweeper=optuna"),
    ):
        own.write_text(f"# @package _global_\n{text}\n")
        status, message = typed("--config-dir=mine", "experiment=own")
        assert status == 1
        assert f"{name}: is for several runs; type --multirun besides" in message
