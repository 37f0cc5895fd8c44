import argparse
import copy
import pickle
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision import models

from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.history.googlenet import GoogLeNet
from densenet_cli.models.pretrained import classifier, load_pretrained
from densenet_cli.options import UserError
from densenet_cli.training.checkpoints import load_checkpoint, load_weights


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return models.densenet121(num_classes=7).eval()


def ours(classes=7):
    return DenseNet(classes, growth_rate=32, depth=121, stem="imagenet").eval()


def old_names(state):
    """As the released files name them: norm.1 for norm1, and nothing of later versions."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("kind", ["torchvision", "released", "safetensors", "run"])
def test_weights_of_others_give_their_answers(theirs, tmp_path, kind):
    state, path = theirs.state_dict(), tmp_path / "weights.pth"
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        state = old_names(state) if kind == "released" else state
        if kind == "run":
            state = {"state_dict": {f"network.{name}": tensor for name, tensor in state.items()}}
        torch.save(state, path)
    network = ours()
    assert load_pretrained(network, str(path)) == []
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(images), rtol=1e-4, atol=1e-5)


def tiny(seed=0):
    torch.manual_seed(seed)
    return DenseNet(3, growth_rate=2, depth=10).eval()


WEIGHTS, AVERAGE = tiny(1).state_dict(), tiny(2).state_dict()


def prefixed(prefix, weights=WEIGHTS):
    return {prefix + name: tensor for name, tensor in weights.items()}


def compiled_in_parts():
    """The weights of a network whose first block and last batch norm torch.compile has wrapped."""
    parts = "features.denseblock1.", "features.norm5."
    return {
        next(
            (part + "_orig_mod." + name[len(part) :] for part in parts if name.startswith(part)), name
        ): one
        for name, one in WEIGHTS.items()
    }


# What files of training programs hold, and the weights that are to be found.
FILES = {
    "compiled": (prefixed("_orig_mod."), WEIGHTS),
    "compiled in parts": (compiled_in_parts(), WEIGHTS),
    "parallel": (prefixed("module."), WEIGHTS),
    "parallel, compiled": (prefixed("module._orig_mod."), WEIGHTS),
    "compiled, parallel": (prefixed("_orig_mod.module."), WEIGHTS),
    "compiled within a module": (prefixed("network._orig_mod."), WEIGHTS),
    "within model": (prefixed("model."), WEIGHTS),
    **{
        f"under {place}": ({place: WEIGHTS, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, WEIGHTS)
        for place in ("state_dict", "model_state_dict", "model", "net", "network")
    },
    "under two": ({"model": {"state_dict": prefixed("module.")}, "optimizer": {}}, WEIGHTS),
    "timm with EMA": ({"state_dict": WEIGHTS, "state_dict_ema": AVERAGE}, AVERAGE),
    "torchvision with EMA": (
        {
            "model": WEIGHTS,
            "model_ema": {"n_averaged": torch.tensor(9), **prefixed("module.", AVERAGE)},
        },
        AVERAGE,
    ),
    "a run with EMA": ({"state_dict": prefixed("network."), "current_model_state": AVERAGE}, WEIGHTS),
}


@pytest.mark.parametrize("kind", FILES)
def test_weights_load_from_wherever_programs_put_them(kind, tmp_path):
    content, expected = FILES[kind]
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    pretrained, tested = tiny(), tiny()
    assert load_pretrained(pretrained, str(path)) == []
    load_weights(tested, load_checkpoint(path), path)
    for name, tensor in expected.items():
        assert torch.equal(pretrained.state_dict()[name], tensor), name
        assert torch.equal(tested.state_dict()[name], tensor), name


def test_a_network_with_names_like_prefixes_keeps_them(tmp_path):
    torch.manual_seed(0)
    makers = [nn.Sequential(OrderedDict(model=nn.Linear(2, 2), module=nn.Linear(2, 2))) for _ in "ab"]
    torch.save(prefixed("model.", makers[0].state_dict()), tmp_path / "weights.pth")
    assert load_pretrained(makers[1], str(tmp_path / "weights.pth")) == []
    assert torch.equal(makers[0].module.weight, makers[1].module.weight)
    assert torch.equal(makers[0].model.weight, makers[1].model.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {**WEIGHTS, **prefixed("module.", AVERAGE)},
            "two of its tensors are named features.conv0.weight",
        ),
        ({"model": 3, "net": {}}, "contains no weights"),
        ({"model": {"model": {"model": {"model": {"model": WEIGHTS}}}}}, "contains no weights"),
    ],
)
def test_weights_that_are_not_clear_are_refused(content, message, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=message):
        load_pretrained(tiny(), str(path))
    with pytest.raises(UserError, match=message):
        load_weights(tiny(), load_checkpoint(path), path)


def test_a_classifier_for_other_classes_stays_new(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    network = ours(classes=3)
    before = copy.deepcopy(network.classifier.state_dict())
    kept = load_pretrained(network, str(tmp_path / "weights.pth"))
    assert kept == ["classifier.weight", "classifier.bias"]
    assert all(
        torch.equal(before[name], tensor) for name, tensor in network.classifier.state_dict().items()
    )
    assert torch.equal(network.features.conv0.weight, theirs.features.conv0.weight)
    assert classifier(network)[0] == "classifier"


def test_auxiliary_classifiers_for_other_classes_stay_new_too(tmp_path):
    trained, network = GoogLeNet(3, auxiliary=True), GoogLeNet(4, auxiliary=True)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    before = copy.deepcopy(network.state_dict())
    kept = load_pretrained(network, str(tmp_path / "weights.pth"))
    layers = ("auxiliary.0.6", "auxiliary.1.6", "fc")
    assert kept == [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]
    for name, value in network.state_dict().items():
        assert torch.equal(value, (before if name in kept else trained.state_dict())[name]), name


def test_a_classifier_for_as_many_other_classes_stays_new(theirs, tmp_path):
    names = [f"class {number}" for number in range(theirs.classifier.out_features)]
    state = {f"network.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": state, "trained_on": {"class_names": names}}, tmp_path / "last.ckpt")
    path = str(tmp_path / "last.ckpt")
    assert load_pretrained(ours(), path, classes=names) == []
    others = [*names[1:], names[0]]
    assert load_pretrained(ours(), path, classes=others) == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("features.norm5.weight"),
            "features.norm5.weight is missing there",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is not in the network"),
        (
            lambda s: s.update({"features.conv0.weight": torch.zeros(64, 3, 5, 5)}),
            "features.conv0.weight is (64, 3, 5, 5) there and (64, 3, 7, 7) in the network",
        ),
    ],
)
def test_what_does_not_fit_is_named(theirs, tmp_path, change, message):
    state = dict(theirs.state_dict())
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="1 tensors differ") as error:
        load_pretrained(ours(), str(tmp_path / "weights.pth"))
    assert message in str(error.value)


class _Harmful:
    def __reduce__(self):
        return open, ("harmed", "w")


def test_a_file_that_holds_code_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps({"state_dict": _Harmful()}, protocol=2))
    with pytest.raises(UserError, match="more than plain data"):
        load_pretrained(ours(), str(tmp_path / "weights.pth"))
    assert not (tmp_path / "harmed").exists()


def test_files_and_libraries_that_are_not_there_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"pretrained\.weights=nowhere\.pth: there is no such file"):
        load_pretrained(ours(), "nowhere.pth")
    with pytest.raises(UserError, match="torchvision has no weights for this network"):
        load_pretrained(ours(), "torchvision")

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", "empty")
    with pytest.raises(
        UserError, match="densenet121 cannot be downloaded: no route to host; download the file"
    ):
        load_pretrained(ours(), "torchvision", "densenet121")
