import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from densenet_cli.data.image_data import ImageData

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))


def composed(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = [f"+data={name}", "+recipe.batch_size=96", "+seed=5", *overrides]
        cfg = compose(overrides=chosen)
    OmegaConf.resolve(cfg)
    return cfg.data


def test_the_data_sets_are_all_there():
    assert set(NAMES) >= {"cifar10", "cifar100", "digits", "image_folder", "image_table", "svhn"}


@pytest.mark.parametrize("name", NAMES)
def test_every_data_file_builds_and_names_every_option(name):
    needed = {"image_folder": ["data.root=pictures"], "image_table": ["data.table=labels.csv"]}
    cfg = composed(name, *needed.get(name, []))
    data = instantiate(cfg)
    assert isinstance(data, ImageData)
    assert (data.name, data.batch_size, data.seed) == (name, 96, 5)
    options = set(inspect.signature(get_class(cfg._target_)).parameters)
    assert set(cfg) - {"_target_"} == options


@pytest.mark.parametrize("name", NAMES)
def test_the_file_and_the_class_have_the_same_defaults(name):
    cfg = composed(name)
    signature = inspect.signature(get_class(cfg._target_))
    for key, parameter in signature.parameters.items():
        is_given = key in ("seed", "batch_size")  # by other parts of the configuration
        if parameter.default is not parameter.empty and not is_given:
            assert cfg[key] == parameter.default, key


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_downloads_go_to_a_folder_set_by_one_variable(name, monkeypatch):
    monkeypatch.delenv("DENSENET_DATA", raising=False)
    assert composed(name).root == "~/.cache/densenet-cli"
    monkeypatch.setenv("DENSENET_DATA", "/elsewhere")
    assert composed(name).root == "/elsewhere"


@pytest.mark.parametrize("name", NAMES)
def test_every_data_file_begins_with_a_description(name):
    first = (CONF / "data" / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 40
