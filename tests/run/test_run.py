import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
import yaml
from tiny_run import TINY

from densenet_cli import kernels
from densenet_cli.data.digits import Digits
from densenet_cli.data.image_data import ImageData
from densenet_cli.inference import run_images, trained_network
from densenet_cli.models.resnet import ResNet
from densenet_cli.options import OptionError
from densenet_cli.record import outcomes
from densenet_cli.run import assemble, trainer_options
from densenet_cli.training.classifier import ImageClassifier


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the command, which several tests read."""
    import os
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("run")
    answer = subprocess.run(
        [sys.executable, "-m", "densenet_cli.commands.run", *TINY, "data.validation=100"],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    (run,) = (folder / "outputs").glob("*/*")
    return run, answer.stdout


def test_a_run_writes_its_record(finished):
    run, _ = finished
    record = json.loads((run / "run.json").read_text())
    assert record["state"] == "done"
    assert record["parameters"] == 2_666  # of DenseNet-BC (L=10, k=4) with 10 classes
    # 1,242,714 at 32x32; the 9 x 10 of the classifier do not depend on the image size
    assert record["multiply_adds"] == (1_242_714 - 90) // 16 + 90
    assert record["seed"] == 0
    assert record["overrides"][0] == "experiment=quickstart"
    assert record["config"] == yaml.safe_load((run / "config.yaml").read_text())
    assert record["data"]["sizes"] == {"train": 1337, "validation": 100, "test": 360}
    assert 0 < record["data"]["statistics"]["mean"][0] < 1
    assert record["precision"] in ("32-true", "bf16-mixed")
    assert record["implementation"] in ("fused", "reference")
    assert {"torch", "lightning", "python"} <= record["versions"].keys()
    for key in ("images_per_second", "seconds", "train_seconds", "peak_memory_bytes"):
        assert record[key] > 0, key
    assert yaml.safe_load((run / "overrides.yaml").read_text()) == record["overrides"]


def test_results_agree_with_the_rows_of_metrics(finished):
    run, _ = finished
    results = json.loads((run / "run.json").read_text())["results"]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    errors = [float(row["validation_error"]) for row in rows]
    assert results["validation_error_last"] == pytest.approx(errors[-1], abs=1e-4)
    assert results["validation_error_best"] == pytest.approx(min(errors), abs=1e-4)
    assert results["best_epoch"] == errors.index(min(errors)) + 1
    assert results["test_error"] == results["test_error_last"]  # the recipe reports the last epoch
    assert results["reported"] == "last"
    # of 360 images a whole number is predicted wrongly
    assert results["test_error"] * 3.6 == pytest.approx(round(results["test_error"] * 3.6), abs=1e-3)
    assert {"train_loss", "train_error", "train_top5_error", "learning_rate"} <= rows[0].keys()


def test_checkpoints_are_plain_data(finished):
    run, _ = finished
    for name in ("last", "best"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert "network.classifier.weight" in checkpoint["state_dict"]


def test_output_to_a_file_is_a_line_per_epoch_and_a_summary(finished):
    _, output = finished
    lines = output.splitlines()
    assert lines[0].startswith("training DenseNet, 2,666 parameters, on digits, 1,337 images of 8x8;")
    assert [line[:9] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert "\x1b" not in output
    for word in ("test error", "parameters", "multiply-adds", "images/s", "folder"):
        assert word in output


def test_testing_a_trained_network_again_gives_the_same_result(finished, typed, monkeypatch):
    run, _ = finished
    results = json.loads((run / "run.json").read_text())["results"]
    monkeypatch.chdir(run.parents[2])
    for name, key in (("last", "test_error_last"), ("best", "test_error_best")):
        checkpoint = run / "checkpoints" / f"{name}.ckpt"
        status, message = typed(
            "task=test", f"checkpoint={checkpoint}", f"hydra.run.dir=outputs/test-{name}"
        )
        assert status == 0, message
        tested = json.loads((run.parents[2] / f"outputs/test-{name}/run.json").read_text())
        assert tested["results"]["test_error"] == results[key]
        again = outcomes.read(run.parents[2] / f"outputs/test-{name}")
        assert again.error == pytest.approx(results[key], abs=1e-4)
        if name == "last":  # which the recipe reports
            assert again == outcomes.read(run)


def test_the_outcomes_are_those_of_the_test_images_in_their_order(finished):
    run, _ = finished
    digest = json.loads((run / "run.json").read_text())["data"]["digest"]
    found = outcomes.read(run)
    trained = trained_network.load(run)
    ((images, labels),) = run_images.batches(trained, 360, batch_size=360)
    with torch.inference_mode():
        right = trained.network(images).argmax(1) == labels
    assert found.digest == digest
    # logits of batches of another size may differ in the last bits
    assert sum(one != other for one, other in zip(found.right, right.tolist(), strict=True)) <= 2
    assert 30 < sum(found.right) < 330  # else the order would not matter


def test_testing_a_checkpoint_that_the_test_images_chose_warns(typed):
    assert typed(*TINY, "epochs=1", "hydra.run.dir=run") == (0, "")
    answers = {
        name: typed("task=test", f"checkpoint=run/checkpoints/{name}.ckpt", f"hydra.run.dir={name}")
        for name in ("last", "best")
    }
    assert answers["last"] == (0, "")
    status, message = answers["best"]
    assert status == 0
    assert "best.ckpt was chosen by the test images" in message


def test_weights_of_another_network_are_refused(finished, typed):
    run, _ = finished
    last = run / "checkpoints" / "last.ckpt"
    for overrides in (["model.growth_rate=6"], ["model=resnet_20"]):
        status, message = typed("task=test", f"checkpoint={last}", *overrides)
        assert status == 1
        assert "another network" in message
        assert message.count("\n") == 1


def test_arguments_of_lightnings_trainer_are_passed_on(typed, tmp_path):
    overrides = ["++trainer.limit_train_batches=3", "++trainer.limit_val_batches=0", "epochs=1"]
    status, message = typed(*TINY, *overrides, "hydra.run.dir=outputs/few")
    assert status == 0, message
    checkpoint = torch.load(tmp_path / "outputs/few/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3


def test_an_epoch_that_was_not_evaluated_has_no_evaluation(typed, tmp_path):
    overrides = ["epochs=3", "++trainer.check_val_every_n_epoch=2", "hydra.run.dir=outputs/run"]
    assert typed(*TINY, *overrides)[0] == 0
    with (tmp_path / "outputs/run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["test_error"]) for row in rows] == [False, True, False]
    results = json.loads((tmp_path / "outputs/run/run.json").read_text())["results"]
    assert results["best_epoch"] == 2
    assert results["test_error_best"] == float(rows[1]["test_error"])


def test_the_best_epoch_is_reported_only_if_held_out_images_chose_it(typed, tmp_path):
    overrides = [*TINY, "recipe.report=best"]
    status, message = typed(*overrides, "hydra.run.dir=outputs/refused")
    assert status == 1
    assert message.count("\n") == 1
    rule = "recipe.report=best: needs held-out images to choose the epoch by; for example"
    assert f"{rule} data.validation=143" in message
    # Images are held out, but no epoch was evaluated on them: the last one is reported, with a warning.
    overrides += ["data.validation=143", "++trainer.limit_val_batches=0", "hydra.run.dir=outputs/last"]
    status, message = typed(*overrides)
    assert status == 0, message
    assert "no epoch was evaluated on held-out images" in message
    results = json.loads((tmp_path / "outputs/last/run.json").read_text())["results"]
    assert results["reported"] == "last"
    assert results["test_error"] == results["test_error_last"]
    assert "test_error_best" not in results  # there is no best epoch
    assert trained_network.load(Path("outputs/last")).checkpoint.name == "last.ckpt"


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(typed, tmp_path):
    overrides = ["recipe=constant", "recipe.optimizer.lr=1e38", "recipe.optimizer.momentum=0"]
    overrides += ["recipe.optimizer.nesterov=false", "trainer.precision=32-true"]
    status, message = typed(*TINY, *overrides, "hydra.run.dir=outputs/diverged")
    assert status == 1
    assert "the loss is" in message
    assert "recipe.optimizer.lr=" in message
    record = json.loads((tmp_path / "outputs/diverged/run.json").read_text())
    assert record["state"] == "failed"
    assert "the loss is" in record["error"]
    assert "Traceback" in (tmp_path / "outputs/diverged/run.log").read_text()
    for path in (tmp_path / "outputs/diverged").glob("checkpoints/*"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize(
    "overrides",
    [
        "recipe.ema_decay=0.9",
        "recipe.label_smoothing=0.1 recipe.gradient_clip=1 recipe.mixup=0.2",
        "recipe=constant recipe.schedule._target_=torch.optim.lr_scheduler.CosineAnnealingLR "
        "+recipe.schedule.T_max=${epochs}",
        "recipe=constant recipe.optimizer._target_=torch.optim.AdamW recipe.optimizer.lr=0.001 "
        "~recipe.optimizer.momentum ~recipe.optimizer.nesterov",
        "recipe=adamw_cosine",
        "model=resnet_20",
    ],
    ids=["ema", "smoothing-and-clipping", "cosine", "adamw", "adamw-cosine", "resnet"],
)
def test_options_of_recipes_run(overrides, typed, tmp_path):
    tiny = [word for word in TINY if not (overrides == "model=resnet_20" and word.startswith("model."))]
    status, message = typed(*tiny, *overrides.split(), "hydra.run.dir=outputs/option")
    assert status == 0, message
    record = json.loads((tmp_path / "outputs/option/run.json").read_text())
    assert record["results"]["test_error"] < 95


def test_the_same_seed_gives_the_same_weights_and_another_does_not(typed, tmp_path):
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        status, message = typed(*TINY, "epochs=1", f"seed={seed}", f"hydra.run.dir=outputs/{name}")
        assert status == 0, message
        checkpoint = torch.load(tmp_path / f"outputs/{name}/checkpoints/last.ckpt", weights_only=True)
        states.append(checkpoint["state_dict"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(
        states[0]["network.classifier.weight"], states[2]["network.classifier.weight"]
    )


def test_a_densenet_of_torchvision_is_computed_by_the_kernels(config):
    network = torchvision.models.DenseNet(4, (1, 1), 8)
    for chosen, expected in (("reference", "reference"), ("auto", "fused")):
        options = trainer_options.read(
            config("trainer=cpu", f"trainer.implementation={chosen}")["trainer"]
        )
        assert "implementation" not in options.arguments
        assemble.accelerate(SimpleNamespace(network=network), None, options)
        assert kernels.implementation(network) == expected


def test_kernels_are_refused_for_a_network_that_they_cannot_compute(config):
    options = trainer_options.read(config("trainer=cpu", "trainer.implementation=fused")["trainer"])
    classifier = SimpleNamespace(network=torchvision.models.resnet18())
    with pytest.raises(
        OptionError, match=r"trainer\.implementation=fused: this ResNet cannot be fused"
    ):
        assemble.accelerate(classifier, None, options)


@pytest.mark.parametrize(
    ("data", "precision", "is_whole"),
    [(Digits(), "bf16-mixed", True), (Digits(), "16-mixed", False), (ImageData(), "bf16-mixed", False)],
    ids=["in memory", "gradient scaler", "image folder"],
)
def test_whole_steps_are_recorded_where_they_can_be(data, precision, is_whole, config):
    options = trainer_options.read(config("trainer=cpu", "trainer.implementation=reference")["trainer"])
    options = dataclasses.replace(
        options, cuda_graphs=True, arguments={**options.arguments, "precision": precision}
    )
    classifier = ImageClassifier(torch.nn.Linear(2, 2), torch.optim.SGD, None, 2)
    assemble.accelerate(classifier, data, options)
    assert classifier.graphs is not None
    assert (classifier.recorded_step is not None) is is_whole
    assert data.leaves_training_batches is is_whole


@pytest.mark.parametrize("typed", ["auto", "true"])
def test_steps_with_stochastic_depth_are_not_recorded(typed, config, monkeypatch):
    monkeypatch.setattr(trainer_options.devices, "is_available", lambda device: True)
    words = "trainer=gpu", "trainer.precision=32-true", f"trainer.cuda_graphs={typed}"
    options = trainer_options.read(config(*words)["trainer"])
    assert options.cuda_graphs
    network = ResNet(10, 8, survival_probability=0.5)
    classifier, data = ImageClassifier(network, torch.optim.SGD, None, 10), Digits()
    if typed == "auto":
        assemble.accelerate(classifier, data, options)
        assert classifier.graphs is classifier.recorded_step is None
        assert not data.leaves_training_batches
    else:
        message = r"trainer\.cuda_graphs=true: .*stochastic depth.*trainer\.cuda_graphs=auto"
        with pytest.raises(OptionError, match=message):
            assemble.accelerate(classifier, data, options)
    constant = ImageClassifier(ResNet(10, 8), torch.optim.SGD, None, 10)
    assemble.accelerate(constant, Digits(), options)
    assert constant.recorded_step is not None


@pytest.mark.parametrize("override", ["trainer.sync_batchnorm=true", "trainer.precision=16-mixed"])
def test_options_that_kernels_do_not_support_are_refused(override):
    key, _, value = override.partition("=")
    options = {key.removeprefix("trainer."): {"true": True}.get(value, value)}
    message = f"trainer.implementation=fused: cannot be combined with {key}"
    with pytest.raises(OptionError, match=message):
        trainer_options._implementation("fused", options)
    assert trainer_options._implementation("auto", options) == "reference"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["trainer=slurm"], "for example trainer.accelerator=cpu trainer.devices=2"),
        (["trainer=slurm", "trainer.accelerator=cpu"], "for example trainer.devices=2"),
    ],
)
def test_all_gpus_of_a_machine_without_one_are_refused(typed, message, config, monkeypatch):
    monkeypatch.setattr(trainer_options.devices, "is_available", lambda device: device == "cpu")
    with pytest.raises(OptionError, match=f"{message}$"):
        trainer_options.read(config(*typed)["trainer"])


@pytest.mark.parametrize(
    ("strategy", "expected"), [("auto", True), ("ddp", True), ("fsdp", False), ("ddp_spawn", False)]
)
@pytest.mark.parametrize("devices", ["1", "[1]", "[0,1]", "2"])
def test_steps_are_recorded_on_one_gpu_and_on_several(devices, strategy, expected, config):
    typed = f"trainer.devices={devices}", f"trainer.strategy={strategy}"
    section = config("trainer=auto", *typed)["trainer"]
    assert trainer_options._cuda_graphs("auto", section, "cuda") is expected


@pytest.mark.parametrize(
    ("overrides", "example"),
    [
        (["recipe.batch_size=359"], 360),  # 1437 = 4 x 359 + 1
        (["data.batch_size=1"], 3),
        (["recipe.batch_size=359", "++trainer.limit_train_batches=4"], None),  # it is never reached
        (["recipe.batch_size=359", "++trainer.max_steps=2"], None),
        (["recipe.batch_size=359", "model.block_config=[1,1,1]"], None),  # feature maps of 2x2 pixels
        (["recipe.batch_size=360"], None),
    ],
)
def test_a_last_batch_of_one_image_is_refused_before_training(overrides, example, typed, tmp_path):
    maps_of_one_pixel = ["model.block_config=[1,1,1,1]", "model.growth_rate=2", "epochs=1"]
    status, message = typed(*TINY, *maps_of_one_pixel, *overrides, "hydra.run.dir=outputs/run")
    if example is None:
        assert status == 0, message
        return
    assert status == 1
    assert message.count("\n") == 1
    assert "leaves a single image for the last batch of the 1437 training images" in message
    assert f"for example data.batch_size={example}\n" in message
    assert not (tmp_path / "outputs/run/metrics.csv").exists()
