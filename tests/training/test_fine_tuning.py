import json

import pytest
import torch
from tiny_run import TINY
from torch import nn

from densenet_cli.models.densenet import DenseNet
from densenet_cli.training.fine_tuning import frozen_around, parameter_groups


def test_learning_rates_fall_from_the_classifier_to_the_stem():
    network = DenseNet(10, growth_rate=4, depth=10)
    groups = parameter_groups(network, lr=0.1, layer_decay=0.5)
    stages = ["classifier", "norm5", "denseblock3", "transition2", "denseblock2", "transition1"]
    stages += ["denseblock1", "conv0"]
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.5**n for n in range(8)])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for stage, group in zip(stages, groups, strict=True):
        assert all(f".{stage}." in f".{names[id(p)]}" for p in group["params"]), stage
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_all_but_the_classifier_is_frozen():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))
    frozen = frozen_around(network, network[2][0])
    assert [p.requires_grad for p in network.parameters()] == [False] * 4 + [True] * 2
    assert frozen == [network[0], network[1]]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_starts_from_the_weights_of_another_run(typed, tmp_path, frozen):
    status, message = typed(*TINY, "epochs=1", "hydra.run.dir=first")
    assert status == 0, message
    first = tmp_path / "first/checkpoints/last.ckpt"
    overrides = [*TINY, f"pretrained.weights={first}", f"pretrained.frozen={str(frozen).lower()}"]
    overrides += ["epochs=1", "pretrained.layer_decay=0.5", "hydra.run.dir=second"]
    status, message = typed(*overrides)
    assert status == 0, message
    assert "begins with the weights of" in message
    before = torch.load(first, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "second/checkpoints/last.ckpt", weights_only=True)
    changed = {n for n, t in after["state_dict"].items() if not torch.equal(t, before[n])}
    if frozen:
        assert changed == {"network.classifier.weight", "network.classifier.bias"}
    else:
        assert changed == before.keys()
        rates = [group["max_lr"] for group in after["optimizer_states"][0]["param_groups"]]
        assert rates == pytest.approx([0.1 * 0.5**stage for stage in range(8)])
    record = json.loads((tmp_path / "second/run.json").read_text())
    assert record["config"]["pretrained"]["weights"] == str(first)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("pretrained.frozen=true", "pretrained.frozen=true: needs pretrained.weights"),
        (
            "pretrained.layer_decay=2",
            "pretrained.layer_decay=2: must be a number above 0 and at most 1",
        ),
        ("pretrained.weights=nowhere", "pretrained.weights=nowhere: there is no such file"),
        ("pretrained.weights=torchvision", "torchvision has no weights for this network"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(typed, override, reason):
    status, message = typed(*TINY, override)
    assert status == 1
    assert reason in message
