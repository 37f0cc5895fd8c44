"""A network is tested and used with the normalisation by pixels that it was trained with."""

import pytest
import torch
from tiny_run import TINY

from densenet_cli.data.digits import Digits
from densenet_cli.inference import run_images, trained_network
from densenet_cli.options import OptionError, UserError
from densenet_cli.run import testing

FACTS = {"class_names": [str(digit) for digit in range(10)], "image_size": [8, 8]}


def prepared(**options):
    data = Digits(**options)
    data.prepare()
    return data


def saved(kind):
    """A checkpoint of a run with held-out images; one without them measures other numbers."""
    data = prepared(normalise=kind, validation=700)
    return {"trained_on": FACTS, "Digits": data.state_dict()}


def load(data, checkpoint):
    testing.prepare_data({"checkpoint": "last.ckpt", "data": {}}, data, checkpoint)


@pytest.mark.parametrize("kind", ["pixel_mean", "pixel_mean_std", "zca"])
def test_the_measurements_of_the_checkpoint_are_used(kind):
    checkpoint, data = saved(kind), prepared(normalise=kind)
    own = data.pixel_statistics.mean
    load(data, checkpoint)
    assert data.pixel_statistics.mean.equal(checkpoint["Digits"]["pixel_statistics"]["mean"])
    assert not data.pixel_statistics.mean.equal(own)


@pytest.mark.parametrize(("typed", "trained"), [("mean_std", "zca"), ("pixel_mean_std", "pixel_mean")])
def test_another_normalisation_is_refused_with_the_right_one(typed, trained):
    message = f"data.normalise={typed}: checkpoint=last.ckpt was trained with {trained}; .*={trained}"
    with pytest.raises(OptionError, match=message):
        load(prepared(normalise=typed), saved(trained))


def test_a_network_trained_otherwise_has_no_mean_image():
    with pytest.raises(OptionError, match=r"data.normalise=pixel_mean: .* another normalisation"):
        load(prepared(normalise="pixel_mean"), saved("mean_std"))


def test_a_file_of_weights_alone_is_tested_by_own_measurements():
    data = prepared(normalise="pixel_mean")
    load(data, {"state_dict": {}})
    assert data.pixel_statistics.image_size == (8, 8)


def test_images_of_another_size_have_no_such_mean():
    data = prepared(normalise="pixel_mean")
    data.image_size = (16, 16)
    with pytest.raises(OptionError, match="for images of 8 x 8 pixels; these have 16 x 16"):
        load(data, saved("pixel_mean"))


def test_a_network_is_used_as_it_was_trained(typed, tmp_path, monkeypatch):
    words = [*TINY, "epochs=1", "data.normalise=zca", "data.validation=99", "hydra.run.dir=run"]
    assert typed(*words) == (0, "")
    trained = trained_network.load(tmp_path / "run", "cpu", "32-true")
    ((inputs, _),) = run_images.batches(trained, 64)
    data = prepared(normalise="zca", validation=99)
    images, _ = data.some_test_images(64)
    expected = data.scale_on(inputs.device).normalised(images).permute(0, 3, 1, 2)
    torch.testing.assert_close(inputs, expected, atol=1e-3, rtol=0)
    monkeypatch.setattr("densenet_cli.data.pixel_statistics.saved", lambda checkpoint: None)
    with pytest.raises(UserError, match=r"does not hold the normalisation of its run, .*=zca"):
        trained_network.load(tmp_path / "run", "cpu", "32-true")
