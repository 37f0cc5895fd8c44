"""Runs on images of one channel: trained, resumed, tested and used by every command."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import write_idx
from PIL import Image
from tiny_run import TINY

FOLDER = ["data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=0"]
GREY = [*TINY, *FOLDER, "data.channels=1", "data.batch_size=8", "trainer.precision=32-true"]
MNIST = [*TINY, "data=mnist", "data.root=.", "data.verify=false", "data.batch_size=16"]
OWN = """\
from torch import nn

class Own(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))
"""


def digits(root, images=96, test=48):
    """A made MNIST: bright squares of ten sizes."""
    (folder := Path(root, "MNIST/raw")).mkdir(parents=True)
    for split, count in (("train", images), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[4 : 8 + label, 4 : 8 + label] = 200
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)
    return pixels, labels


def record(folder="run"):
    return json.loads(Path(folder, "run.json").read_text())


def weights(folder):
    return torch.load(Path(folder, "checkpoints/last.ckpt"), weights_only=True)["state_dict"]


def test_networks_of_both_implementations_learn_the_same_from_one_channel(typed, capsys):
    digits(".")
    for name in ("reference", "fused"):
        words = [*MNIST, f"trainer.implementation={name}", "trainer.precision=32-true"]
        typed(*words, f"hydra.run.dir={name}")
    before, after = record("reference"), record("fused")
    assert (before["implementation"], after["implementation"]) == ("reference", "fused")
    assert after["results"]["test_loss"] == pytest.approx(before["results"]["test_loss"], rel=1e-3)
    assert after["data"]["channels"] == 1
    assert after["data"]["image_size"] == [28, 28]
    assert weights("fused")["network.features.conv0.weight"].shape == (8, 1, 3, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_every_command_uses_a_run_of_one_channel(typed, densenet_model, tmp_path):
    assert typed(*GREY, "hydra.run.dir=run") == (0, "")
    assert record()["data"]["statistics"]["std"] == [pytest.approx(0.2256, abs=1e-4)]
    for words in (
        ("predict", "run", "photos"),
        ("predict", "run", "photos", "--ten-crop"),
        ("reuse", "run", "--images", "4"),
        ("lesions", "run", "--images", "4", "--most", "1", "--draws", "1"),
        ("gradients", "run", "--images", "4"),
        ("maps", "run", "--images", "4"),
        ("mistakes", "run"),
        ("saliency", "run", "--images", "2"),
        ("saliency", "run", "--pictures", "photos/cat"),
        ("depth", " ".join([*FOLDER, "data.channels=1", "model=resnet model.depth=8"]), "--seeds=1"),
        ("export", "run", "--format", "torch-export"),
        ("export", "run", "--format", "safetensors", "--check", "photos"),
    ):
        status, _, message = densenet_model(*words)
        assert status == 0, f"{words}: {message}"
    from safetensors import safe_open

    with safe_open("run/network.safetensors", "pt") as file:
        known = file.metadata()
    assert known["input"].startswith("grey levels")
    assert "(N, 1, height, width)" in known["input"]
    status, out, message = densenet_model("evaluate", "run", "photos")
    assert "20" in out, message


def test_the_summary_of_a_network_is_for_the_channels_that_are_typed(densenet_model):
    words = ["summary", "model=densenet_bc", "model.depth=10", "--channels", "1", "--format", "json"]
    status, out, message = densenet_model(*words)
    assert status == 0, message
    content = json.loads(out)
    assert content["channels"] == 1
    (first,) = [layer for layer in content["layers"] if layer["name"] == "features.conv0"]
    assert first["parameters"] == 1 * 24 * 9


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_colour_and_grey_are_two_settings_of_one_sweep(typed, results):
    words = ["--multirun", *GREY[:-3], "data.channels=3,1", "data.batch_size=8", "sweep.name=both"]
    assert typed(*words, "epochs=1")[0] == 0
    folders = {path.parent.name for path in Path("outputs/both").glob("*/run.json")}
    assert folders == {"channels=1", "channels=3"}
    assert "grey levels" in results("table", "outputs/both")


@pytest.mark.usefixtures("photos")
def test_a_network_is_tested_on_images_of_its_own_channels_only(typed):
    assert typed(*GREY, "epochs=1", "hydra.run.dir=run") == (0, "")
    words = ["task=test", "checkpoint=run/checkpoints/last.ckpt"]
    assert typed(*words, "hydra.run.dir=tested") == (0, "")
    status, message = typed(*words, "data.channels=3", "hydra.run.dir=refused")
    assert status == 1
    assert message == (
        "densenet-run: data.root=photos: has images of 3 channels; "
        "checkpoint=run/checkpoints/last.ckpt was trained on 1\n"
    )


@pytest.mark.usefixtures("photos")
def test_a_grey_network_begins_with_the_weights_of_a_colour_network(typed):
    assert typed(*GREY, "data.channels=3", "epochs=1", "hydra.run.dir=colour") == (0, "")
    words = [*GREY, "pretrained.weights=colour/checkpoints/last.ckpt", "recipe.optimizer.lr=1e-12"]
    status, message = typed(*words, "recipe.schedule.max_lr=1e-12", "hydra.run.dir=grey")
    assert status == 0, message
    key = "network.features.conv0.weight"
    expected = weights("colour")[key].sum(1, keepdim=True)
    torch.testing.assert_close(weights("grey")[key], expected, rtol=1e-5, atol=1e-6)


def test_a_network_of_the_user_s_that_reads_colours_only_is_refused(typed, monkeypatch, tmp_path):
    digits(".")
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/own.yaml").write_text("_target_: own.Own\n")
    words = ["--config-dir=conf", "model=own", "trainer=cpu", "epochs=1"]
    assert typed(*words, "data=digits", "hydra.run.dir=digits") == (0, "")
    status, message = typed(*words, *MNIST[len(TINY) :])
    assert status == 1
    assert message == (
        "densenet-run: model._target_=own.Own: has no argument in_channels, and the images have "
        "1 channel: give it one, as num_classes\n"
    )


@pytest.mark.slow
def test_a_run_of_one_channel_that_is_killed_is_resumed_to_the_last_bit(command, interrupted):
    digits(".", images=320)
    words = [*MNIST, "epochs=3", "model.dropout=0.2", "checkpoint_minutes=0.0001"]
    answer = command(*words, "hydra.run.dir=whole")
    assert answer.returncode == 0, answer.stderr
    last = "broken/checkpoints/last.ckpt"
    status, _ = interrupted(*words, "hydra.run.dir=broken", once=last, send=signal.SIGKILL)
    assert status == -9
    answer = command("resume=broken")
    assert answer.returncode == 0, answer.stderr
    assert record("broken")["results"] == record("whole")["results"]
    whole, broken = weights("whole"), weights("broken")
    assert all(torch.equal(value, broken[key]) for key, value in whole.items())


@pytest.mark.usefixtures("photos")
def test_grey_pictures_are_read_without_colours(typed, densenet_model):
    for path in Path("photos").glob("*/*.png"):
        Image.open(path).convert("L").save(path)
    shutil.copytree("photos", "copies")
    assert typed(*GREY, "hydra.run.dir=run") == (0, "")
    assert densenet_model("evaluate", "run", "copies")[0] == 0
