"""Every file in conf/ can be chosen and works."""

import pytest
from tiny_run import TINY

from densenet_cli.config.build import build, build_later
from densenet_cli.config.compose import CONF
from densenet_cli.run.option_checks import check


def _choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_the_groups_have_the_names_that_users_type():
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert {"model", "data", "recipe", "trainer", "experiment", "logger"} <= groups


@pytest.mark.parametrize("recipe", _choices("recipe"))
def test_every_recipe_makes_an_optimizer_and_a_schedule(recipe, config):
    composed = config(f"recipe={recipe}")
    check(composed)
    assert composed["epochs"] == composed["recipe"]["epochs"]
    assert composed["data"]["batch_size"] == composed["recipe"]["batch_size"]
    build_later("recipe.optimizer", composed["recipe"]["optimizer"])
    build_later("recipe.schedule", composed["recipe"]["schedule"])
    assert composed["recipe"].keys() == config("recipe=constant")["recipe"].keys()


@pytest.mark.parametrize(
    ("overrides", "batch_size", "epochs", "decay", "dropout"),
    [  # facts of the paper, section 4.2, and of the authors' code
        (["recipe=paper_cifar"], 64, 300, 1e-4, 0.0),
        (["recipe=paper_cifar", "data.augment=false"], 64, 300, 1e-4, 0.2),
        (["recipe=paper_svhn", "data=svhn"], 64, 40, 1e-4, 0.2),
        (["recipe=paper_imagenet", "model=densenet_121"], 256, 90, 1e-4, 0.0),
        (["recipe=resnet"], 128, 164, 1e-4, 0.0),
        (["recipe=wide_resnet"], 128, 200, 5e-4, 0.0),
        (["recipe=stochastic_depth"], 128, 500, 1e-4, 0.0),
        (["recipe=he_2015"], 128, None, 1e-4, 0.0),
    ],
)
def test_recipes_hold_the_papers_numbers(overrides, batch_size, epochs, decay, dropout, config):
    composed = config(*overrides)
    assert composed["data"]["batch_size"] == batch_size
    assert composed["epochs"] == epochs
    optimizer = composed["recipe"]["optimizer"]
    assert optimizer["weight_decay"] == decay
    is_plain = overrides == ["recipe=he_2015"]
    assert (optimizer["lr"], optimizer["momentum"], optimizer["nesterov"]) == (0.1, 0.9, not is_plain)
    assert composed["model"]["dropout"] == dropout
    for option, off in (("label_smoothing", 0.0), ("gradient_clip", None), ("ema_decay", None)):
        assert composed["recipe"][option] == off


def test_each_part_of_the_modern_recipe_is_an_option_that_is_off_in_the_papers(config):
    modern, paper = (config(f"recipe={name}") for name in ("modern_imagenet", "paper_imagenet"))
    off = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "randaugment": None, "ema_share": None}
    assert {name: paper["recipe"][name] for name in off} == off
    assert all(modern["recipe"][name] != value for name, value in off.items())
    assert (paper["data"]["randaugment"], modern["data"]["randaugment"]) == (None, 9)
    assert config("recipe=modern_imagenet", "data.randaugment=null")["data"]["randaugment"] is None
    assert modern["recipe"]["optimizer"]["lr"] / modern["data"]["batch_size"] == 0.5 / 1024


def test_svhn_reports_the_epoch_of_lowest_validation_error(config):
    composed = config("recipe=paper_svhn", "data=svhn")
    assert composed["recipe"]["report"] == "best"
    assert composed["data"]["validation"] == 6000
    assert composed["data"]["augment"] is False


@pytest.mark.parametrize("trainer", _choices("trainer"))
def test_every_trainer_composes(trainer, config):
    composed = config(f"trainer={trainer}")["trainer"]
    assert {"accelerator", "devices", "num_nodes", "strategy", "precision"} <= composed.keys()


def test_slurm_uses_the_nodes_of_its_job(config, monkeypatch):
    assert config("trainer=slurm")["trainer"]["num_nodes"] == 1
    monkeypatch.setenv("SLURM_NNODES", "4")
    assert config("trainer=slurm")["trainer"]["num_nodes"] == 4


@pytest.mark.parametrize("logger", _choices("logger"))
def test_every_logger_composes(logger, config, tmp_path):
    composed = config(f"logger={logger}")["logger"]
    if logger == "tensorboard":
        pytest.importorskip("tensorboard")
        assert build("logger", composed, save_dir=str(tmp_path)).log_dir.startswith(str(tmp_path))
    else:
        assert (logger == "csv") == ("_target_" not in composed)


@pytest.mark.parametrize("experiment", _choices("experiment"))
def test_every_experiment_composes(experiment, config):
    composed = config(f"experiment={experiment}")
    check(composed)
    assert composed != config()


def test_tensorboard_files_are_in_the_folder_of_the_run(typed, tmp_path):
    pytest.importorskip("tensorboard")
    status, message = typed(*TINY, "logger=tensorboard", "hydra.run.dir=outputs/run", "epochs=1")
    assert status == 0, message
    assert list((tmp_path / "outputs/run/tensorboard").glob("events.*"))
