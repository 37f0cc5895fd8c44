"""The learning rate of every step of every recipe, beside the rule of its source."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from torch import nn

from densenet_cli.config.compose import CONF
from densenet_cli.data.epoch_order import EpochOrder
from densenet_cli.run.assemble import build_classifier
from densenet_cli.run.length import keep_to_length


@dataclass
class Rule:
    """What a source says of the learning rate.

    Args:
        source: where it says so.
        images: for training.
        batch_size: of the recipe.
        steps: of the whole run.
        rates: the first step with each rate, from 0; of cycles, some steps with their rates.
        errors: training errors of the first epochs, in percent, for rules that depend on them.
    """

    source: str
    images: int
    batch_size: int
    steps: int
    rates: list[tuple[int, float]]
    errors: list[float] = field(default_factory=list)


def _epochs(steps_per_epoch, *rates):
    """(epoch, rate) with epochs from 1, as the Torch7 logs count them -> (step, rate)."""
    return [((epoch - 1) * steps_per_epoch, rate) for epoch, rate in rates]


CYCLE = [(0, 0.1 / 25), (0.3 * 230 - 1, 0.1), (229, 0.1 / 25 / 1e4)]
ADAMW = [(0, 1e-3 / 25), (0.1 * 300 - 1, 1e-3), (299, 1e-3 / 25 / 1e4)]
RULES = {
    "paper_cifar": Rule(
        "arXiv:1608.06993, 4.2; liuzhuang13/DenseNet, train.lua: epoch >= 0.5 and 0.75 x nEpochs",
        50_000, 64, 300 * 782, _epochs(782, (1, 0.1), (150, 0.01), (225, 0.001)),
    ),
    "paper_svhn": Rule(
        "the same, 40 epochs; 604,388 - 6,000 images",
        598_388, 64, 40 * 9350, _epochs(9350, (1, 0.1), (20, 0.01), (30, 0.001)),
    ),
    "paper_imagenet": Rule(
        "the same, train.lua: floor((epoch - 1) / 30)",
        1_281_167, 256, 90 * 5005, _epochs(5005, (1, 0.1), (31, 0.01), (61, 0.001)),
    ),
    "resnet": Rule(
        "fb.resnet.torch, train.lua: epoch >= 81, epoch >= 122",
        50_000, 128, 164 * 391, _epochs(391, (1, 0.1), (81, 0.01), (122, 0.001)),
    ),
    "he_2015": Rule(
        "arXiv:1512.03385, 4.2: divided at 32k and 48k iterations, ends at 64k",
        50_000, 128, 64_000, [(0, 0.1), (32_000, 0.01), (48_000, 0.001)],
    ),
    "he_2015_110": Rule(
        "the same: 0.01 until the training error is below 80 %, then as before",
        50_000, 128, 64_000, [(0, 0.01), (782, 0.1), (32_000, 0.01), (48_000, 0.001)],
        errors=[80.0, 79.9],
    ),
    "he_2016": Rule(
        "arXiv:1603.05027, appendix: 0.01 at the beginning 400 iterations",
        50_000, 128, 64_000, [(0, 0.01), (400, 0.1), (32_000, 0.01), (48_000, 0.001)],
    ),
    "stochastic_depth": Rule(
        "arXiv:1603.09382, 4; Stochastic_Depth, main.lua: epochCounter < maxEpochs x 0.5, x 0.75",
        45_000, 128, 500 * 352, _epochs(352, (1, 0.1), (250, 0.01), (375, 0.001)),
    ),
    "stochastic_depth_1202": Rule(
        "arXiv:1603.09382, 4: 300 epochs, 0.01 for the first 10, then 0.1, divided at 150 and 225",
        45_000, 128, 300 * 352,
        _epochs(352, (1, 0.01), (11, 0.1), (150, 0.01), (225, 0.001)),
    ),
    "stochastic_depth_svhn": Rule(
        "Stochastic_Depth, main.lua: epochCounter < 50 x 0.6, x 0.7",
        598_388, 128, 50 * 4675, _epochs(4675, (1, 0.1), (30, 0.01), (35, 0.001)),
    ),
    "wide_resnet": Rule(
        "wide-residual-networks, train_cifar.sh, and lr in logs/wide-resnet_1121914561/log.txt",
        50_000, 128, 200 * 391, _epochs(391, (1, 0.1), (60, 0.02), (120, 0.004), (160, 0.0008)),
    ),
    "wide_resnet_svhn": Rule(
        "wide-residual-networks, train_svhn.sh: epoch_step {80,120}, ratio 0.1, from 0.01",
        604_388, 128, 160 * 4722, _epochs(4722, (1, 0.01), (80, 0.001), (120, 0.0001)),
    ),
    "constant": Rule("none", 640, 64, 100 * 10, [(0, 0.1)]),
    "one_cycle": Rule("torch's OneCycleLR: from 1/25 to 1 at 0.3, to 1/25e4", 1437, 64, 230, CYCLE),
    "inverse_time": Rule(
        "Keras, Adam(lr=0.002, decay=0.01): lr / (1 + decay x iterations)",
        452, 32, 150, [(0, 2e-3), (1, 2e-3 / 1.01), (100, 2e-3 / 2), (149, 2e-3 / 2.49)],
    ),
    "adamw_cosine": Rule("torch's OneCycleLR: to 1 at 0.1", 192, 64, 300, ADAMW),
    "modern_imagenet": Rule(
        "torch's OneCycleLR: from 1/100 to 1 at 0.05, to 1/100e4; torchvision's 0.5 for 1024 images",
        2560, 256, 1000, [(0, 0.125 / 100), (0.05 * 1000 - 1, 0.125), (999, 0.125 / 100 / 1e4)],
    ),
}  # fmt: skip


class Trainer:
    """What the classifier and its length ask of Lightning's Trainer."""

    world_size, limit_train_batches, accumulate_grad_batches = 1, 1.0, 1

    def __init__(self, config):
        self.max_epochs = config["epochs"]
        self.fit_loop, self.callbacks = SimpleNamespace(max_epochs=self.max_epochs), []


def schedule_of(config, images):
    """A classifier with the recipe's schedule, its optimizer, and the number of steps of an epoch."""
    data = SimpleNamespace(
        sizes={"train": images}, batch_size=config["data"]["batch_size"], image_size=(2, 2),
        train_image_size=(2, 2), channels=3,
        class_names=["a", "b"], num_classes=2, several_labels=False, skip_broken=False,
        evaluation_split="validation",
        epoch_order=lambda world_size: EpochOrder(images, config["data"]["batch_size"], seed=0),
    )  # fmt: skip
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    classifier, trainer = build_classifier(config, network, data), Trainer(config)
    keep_to_length(config, None, data, classifier, trainer)
    per_epoch = -(-images // data.batch_size)
    trainer.estimated_stepping_batches = trainer.fit_loop.max_epochs * per_epoch
    trainer.max_epochs = trainer.fit_loop.max_epochs
    classifier.trainer = trainer
    built = classifier.configure_optimizers()
    trainer.optimizers = [built["optimizer"]]
    total = classifier.steps or trainer.estimated_stepping_batches
    return classifier, trainer, built["lr_scheduler"], per_epoch, total


def advanced(config, images, errors=()):
    """The learning rate of each step of a run, from the schedule alone."""
    classifier, trainer, lightnings, per_epoch, total = schedule_of(config, images)
    (group,) = trainer.optimizers[0].param_groups
    trainer.optimizers[0].step()
    rates = []
    every = 1 if lightnings["interval"] == "step" else per_epoch
    for step in range(every, total + 1, every):  # Lightning's calls after a step, or an epoch
        rates += [group["lr"]] * every
        if step == total:
            break
        trainer.global_step, trainer.is_last_batch = step, step % per_epoch == 0
        classifier.lr_scheduler_step(lightnings["scheduler"], None)
        if step % per_epoch == 0 and classifier.warm_up is not None:
            epoch = step // per_epoch
            error = errors[epoch - 1] if epoch <= len(errors) else 0.0
            classifier.warm_up.after_epoch(error, epoch)
    return rates


def changes(rates):
    """The first step of each rate."""
    return [(0, rates[0])] + [
        (step, rates[step]) for step in range(1, len(rates)) if rates[step] != rates[step - 1]
    ]


def test_there_is_a_rule_for_every_recipe():
    assert RULES.keys() == {path.stem for path in (CONF / "recipe").glob("*.yaml")}


@pytest.mark.parametrize("recipe", RULES)
def test_the_learning_rates_are_those_of_the_source(recipe, config):
    rule = RULES[recipe]
    configuration = config(f"recipe={recipe}", "model.dropout=0")
    assert configuration["data"]["batch_size"] == rule.batch_size
    rates = advanced(configuration, rule.images, rule.errors)
    assert len(rates) == rule.steps
    if recipe in ("one_cycle", "adamw_cosine", "inverse_time", "modern_imagenet"):
        found = [(step, rates[round(step)]) for step, _ in rule.rates]
        assert max(rates) == pytest.approx(max(rate for _, rate in rule.rates))
    else:
        found = changes(rates)
    assert [step for step, _ in found] == [step for step, _ in rule.rates], rule.source
    ours, theirs = ([rate for _, rate in each] for each in (found, rule.rates))
    assert ours == pytest.approx(theirs), rule.source
