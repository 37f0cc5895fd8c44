"""densenet-model evaluate and predict against the test of the run itself, image by image."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import write_idx
from PIL import Image
from tiny_run import TINY

from densenet_cli.commands import model as model_cli
from densenet_cli.data.digits import Digits
from densenet_cli.inference import trained_network
from densenet_cli.inference.evaluation import evaluate
from densenet_cli.inference.predictions import predict
from densenet_cli.options import UserError
from densenet_cli.training.classifier import ImageClassifier


def photos():
    """Noisy JPEG images of three classes, larger than the network's input."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 13)):
        for label, name in enumerate(("grass", "sea", "stone")):
            folder = Path("photos", part, name)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(60 * label + chance.normal(60, 60, (40, 52, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return ["data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=0"]


def photos_by_ten_crops():
    """The same, tested by ten crops of each image, resized without antialiasing."""
    return [*photos(), "data.test_crops=10", "data.antialias=false"]


def cifar():
    """A small CIFAR-10 of noise, and its test images as PNG files."""
    folder = Path("cifar", "cifar-10-batches-py")
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    names = [f"class{label}" for label in range(10)]
    for name, count in [*((f"data_batch_{part}", 20) for part in range(1, 6)), ("test_batch", 77)]:
        pixels = chance.integers(0, 256, (count, 3072), np.uint8)
        labels = [row % 10 for row in range(count)]
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    as_files(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, names)
    return ["data=cifar10", "data.root=cifar", "data.verify=false"]


def digits():
    """The test images of data=digits as PNG files."""
    _, test, names = Digits(batch_size=64).arrays()
    as_files(test.images.numpy(), test.labels.tolist(), names)
    return ["data=digits"]


def grey_photos():
    """The photos, read in grey levels."""
    return [*photos(), "data.channels=1"]


def mnist():
    """A small MNIST of noise, and its test images as PNG files."""
    (folder := Path("mnist", "MNIST", "raw")).mkdir(parents=True)
    chance = np.random.default_rng(0)
    for name, count in (("train", 90), ("t10k", 77)):
        pixels = chance.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    as_files(pixels, labels.tolist(), [str(digit) for digit in range(10)])
    words = ["data=mnist", "data.root=mnist", "data.verify=false"]
    return [*words, "data.normalise=scale"]  # no warning that this is another MNIST


def as_files(images, labels, names):
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = Path("photos", names[label], f"{number:04}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def with_equal_logits(checkpoint):
    """Change a checkpoint so that the first three classes have equal logits for every image."""
    content = torch.load(checkpoint, weights_only=True)
    for name in ("network.classifier.weight", "network.classifier.bias"):
        rows = content["state_dict"][name]
        rows[1:3] = rows[0]
    torch.save(content, checkpoint)


@pytest.mark.parametrize(
    ("images", "precision"),
    [
        *(
            (images, precision)
            for precision in ("bf16-mixed", "32-true")
            for images in (photos, cifar, mnist, digits)
        ),
        (grey_photos, "32-true"),
        (photos_by_ten_crops, "32-true"),
    ],
)
def test_evaluate_gives_the_logits_of_the_run_s_test(typed, monkeypatch, capsys, images, precision):
    words = [*images(), f"trainer.precision={precision}", "recipe.batch_size=24", "epochs=1"]
    assert typed(*TINY, *words, "hydra.run.dir=run", "++trainer.limit_train_batches=3") == (0, "")
    checkpoint = Path("run/checkpoints/last.ckpt")
    with_equal_logits(checkpoint)
    logits, answer = [], ImageClassifier._logits
    with monkeypatch.context() as patch:
        patch.setattr(
            ImageClassifier, "_logits", lambda *args: logits.append(answer(*args)) or logits[-1]
        )
        assert typed("task=test", f"checkpoint={checkpoint}", "hydra.run.dir=tested") == (0, "")
    results = json.loads(Path("tested/run.json").read_text())["results"]
    tested = torch.cat(logits)

    network = trained_network.load(Path("run"), "cpu")
    found = evaluate(network, Path("photos"))
    classes = {name: label for label, name in enumerate(network.class_names)}
    order = list(range(len(tested)))
    if images in (cifar, mnist, digits):  # files lie class by class
        order = [int(Path(path).stem) for path in found.paths]
    # In float32, sums may be rounded differently if an image is in another batch.
    rounding = 1e-6 if order != sorted(order) and precision == "32-true" else 0
    torch.testing.assert_close(found.logits, tested[order], rtol=0, atol=rounding)
    loss = found.measured.pop("loss")
    assert loss == pytest.approx(results["test_loss"], abs=2e-6)
    names = ("error", "balanced_error", "top5_error")
    assert found.measured == {
        name: results[f"test_{name}"] for name in names if f"test_{name}" in results
    }
    own = evaluate(network, None)  # the test images of the run
    assert torch.equal(own.logits, tested)
    assert own.measured == found.measured | {"loss": results["test_loss"]}
    ten = images is photos_by_ten_crops
    predicted = predict(network, found.paths, top=2, ten_crop=ten)
    guesses = [classes[one.classes[0][0]] for one in predicted]
    assert guesses == tested[order].argmax(1).tolist()

    monkeypatch.setattr(sys, "argv", ["densenet-model", "evaluate", "run", "photos"])
    with pytest.raises(SystemExit):
        model_cli.main()
    assert f"error          {results['test_error']:.2f} %" in capsys.readouterr().out


def test_ten_crops_may_be_asked_for_and_declined(typed, monkeypatch, capsys):
    words = [*photos(), "recipe.batch_size=24", "epochs=1", "++trainer.limit_train_batches=3"]
    assert typed(*TINY, *words, "data.test_crops=10", "hydra.run.dir=run") == (0, "")
    network = trained_network.load(Path("run"), "cpu", "32-true")
    found = {ten: evaluate(network, Path("photos"), ten_crop=ten) for ten in (None, True, False)}
    assert [one.crops for one in found.values()] == [10, 10, 1]
    assert found[None].measured == found[True].measured
    paths = found[True].paths
    expected = torch.stack([network.logits(network.ten_crops(path)[None])[0] for path in paths])
    torch.testing.assert_close(found[True].logits, expected, atol=1e-5, rtol=1e-5)
    crops = torch.stack([network.logits(network.ten_crops(path)).mean(0) for path in paths])
    torch.testing.assert_close(expected, crops, atol=1e-5, rtol=1e-5)
    rows = Path("run/metrics.csv").read_text().splitlines()
    by_one = float(dict(zip(*(row.split(",") for row in rows), strict=True))["test_loss"])
    assert by_one == pytest.approx(found[False].measured["loss"], rel=0.02)  # of the last epoch, bf16
    results = json.loads(Path("run/run.json").read_text())["results"]
    assert results["test_loss"] == pytest.approx(found[True].measured["loss"], rel=0.02)
    assert abs(results["test_loss"] - by_one) > 1e-6

    for flag, words in (("--ten-crop", "39, ten crops of each"), ("--no-ten-crop", "39\n")):
        monkeypatch.setattr(sys, "argv", ["densenet-model", "evaluate", "run", "photos", flag])
        with pytest.raises(SystemExit):
            model_cli.main()
        assert f"images         {words}" in capsys.readouterr().out


def test_a_network_that_takes_images_whole_has_no_ten_crops(typed):
    assert typed(*TINY, *digits(), "epochs=1", "hydra.run.dir=run") == (0, "")
    network = trained_network.load(Path("run"), "cpu")
    with pytest.raises(UserError, match="--ten-crop: this network takes images whole"):
        evaluate(network, Path("photos"), ten_crop=True)
