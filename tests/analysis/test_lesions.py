"""A network with a lesion equals one built without the part; afterwards it is unchanged."""

import copy
import random

import pytest
import scipy.stats
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from densenet_cli.analysis.lesions.command import _row, _summaries
from densenet_cli.analysis.lesions.experiments import (
    Lesion,
    LesionStudy,
    deleted,
    kendall_tau,
    mean_outputs,
    swapped,
)
from densenet_cli.analysis.lesions.figure import draw
from densenet_cli.analysis.lesions.units import find_units
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.history.cifar_sized import vgg_cifar
from densenet_cli.models.preact_resnet import PreActResNet
from densenet_cli.models.resnet import ResNet
from densenet_cli.options import OptionError, UserError

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 5])


def lively(network):
    """The network in evaluation mode, with batch norms that differ from one another."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def dense():
    torch.manual_seed(0)
    return lively(DenseNet(6, 4, 0, block_config=(3, 2), bottleneck=True))


def plain():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    for _ in range(2):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)]
    return lively(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, 6)))


def named(network):
    return {unit.name: unit for unit in find_units(network)}


@torch.no_grad()
def output(network):
    return network(IMAGES)


@pytest.mark.parametrize("build", [lambda: ResNet(6, 20), lambda: PreActResNet(6, 20, block="basic")])
def test_residual_net_without_a_block_equals_one_built_without_it(build):
    network = lively(build())
    without = copy.deepcopy(network)
    without.stages[1] = nn.Sequential(without.stages[1][0], without.stages[1][2])
    before = output(network)
    with deleted([named(network)["stages.1.1"]]):
        lesion = output(network)
    torch.testing.assert_close(lesion, output(without))
    assert not torch.equal(lesion, before)
    assert torch.equal(output(network), before)


def test_without_its_branch_a_block_that_changes_the_shape_is_its_shortcut():
    network = lively(ResNet(6, 8))
    without = copy.deepcopy(network)

    class Shortcut(nn.Module):
        def forward(self, x):
            return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 16))

    without.stages[1][0] = Shortcut()
    with deleted([named(network)["stages.1.0"]]):
        torch.testing.assert_close(output(network), output(without))


def test_torchvisions_residual_blocks_are_units_too():
    with torch.device("meta"):
        shallow, deep = torchvision.models.resnet18(), torchvision.models.resnet50()
        plain_net = torchvision.models.vgg16_bn()
    assert len(find_units(shallow)) == 8
    assert len(find_units(deep)) == 16
    groups = [unit.group for unit in find_units(deep)]
    assert max(map(groups.count, groups)) == 5  # layer3 has six, of which the first changes the shape
    assert [unit.name for unit in find_units(plain_net)][:3] == [
        "features.3",
        "features.10",
        "features.17",
    ]
    assert len(find_units(plain_net)) == 9  # of 13 convolutions


def test_plain_layer_deleted_is_the_identity():
    network = plain()
    without = copy.deepcopy(network)
    without[3] = without[4] = nn.Identity()
    assert list(named(network)) == ["3", "6", "10"]
    with deleted([named(network)["3"]]):
        torch.testing.assert_close(output(network), output(without))


def test_vgg_without_a_layer_equals_one_built_without_it():
    network = lively(vgg_cifar(6))
    units = named(network)
    convolutions = [name for name, _ in network.named_modules() if name.startswith("features.")]
    assert list(units) == [f"features.{n}" for n in (3, 10, 17, 20, 27, 30, 34, 37, 40)]
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network(images)
        for name in ("features.3", "features.30", "features.34"):
            place = convolutions.index(name)  # with its batch norm and its ReLU
            without = copy.deepcopy(network)
            without.features = nn.Sequential(*network.features[:place], *network.features[place + 3 :])
            with deleted([units[name]]):
                lesion = network(images)
            torch.testing.assert_close(lesion, without(images))
            assert not torch.allclose(lesion, before)
        assert torch.equal(network(images), before)


def test_layers_of_vgg_are_swapped_with_those_of_equal_shape_and_resolution():
    with torch.device("meta"):
        study = LesionStudy(vgg_cifar(6), [])
        plain_net = ResNet(6, 20, "none")
    names = [tuple(study.units[place].name for place in pair) for pair in study.pairs()]
    assert names == [
        (f"features.{one}", f"features.{other}")
        for one, other in ((17, 20), (27, 30), (34, 37), (34, 40), (37, 40))
    ]
    # Of 18 convolutions two change the shape, and the first is behind no module that is a ReLU.
    assert len(find_units(plain_net)) == 15


def seen(network, module):
    """The input of a module of the network."""
    got = []
    with module.register_forward_pre_hook(lambda _, args: got.append(args[0])):
        output(network)
    return got[0]


def test_all_layers_of_a_dense_block_deleted_leave_zeros_after_its_input():
    network = dense()
    intact = seen(network, network.features.transition1)
    units = [unit for name, unit in named(network).items() if name.startswith("features.denseblock1")]
    with deleted(units):
        maps = seen(network, network.features.transition1)
    assert torch.equal(maps[:, :8], intact[:, :8])
    assert maps.shape[1] == 8 + 3 * 4
    assert bool((maps[:, 8:] == 0).all())
    assert bool((intact[:, 8:] != 0).any())


def test_deleted_layers_may_output_their_means():
    network = dense()
    intact = seen(network, network.features.transition1)
    units = named(network)
    batches = [(IMAGES[:2], LABELS[:2]), (IMAGES[2:], LABELS[2:])]
    means = mean_outputs(network, units.values(), batches)
    with deleted([units["features.denseblock1.denselayer2"]], means):
        maps = seen(network, network.features.transition1)
    expected = intact[:, 12:16].mean((0, 2, 3))[None, :, None, None].expand_as(maps[:, 12:16])
    torch.testing.assert_close(maps[:, 12:16], expected)
    assert torch.equal(maps[:, :12], intact[:, :12])


def test_units_that_are_deleted_by_passing_their_input_have_no_mean():
    with pytest.raises(OptionError, match="--replace=mean: 3 is deleted by passing its input"):
        LesionStudy(plain(), [(IMAGES, LABELS)], replace="mean")


@pytest.mark.parametrize("build", [lambda: lively(ResNet(6, 26)), plain])
def test_swapped_units_change_places(build):
    network = build()
    other = copy.deepcopy(network)
    units = list(named(network))
    if isinstance(network, ResNet):
        stage = other.stages[0]
        other.stages[0] = nn.Sequential(stage[1], stage[2], stage[0], stage[3])
        pairs = [(0, 2), (0, 1)]  # a b c -> c b a -> b c a
    else:
        other[3], other[4], other[6], other[7] = other[6], other[7], other[3], other[4]
        pairs = [(units.index("3"), units.index("6"))]
    before = output(network)
    with swapped(find_units(network), pairs):
        torch.testing.assert_close(output(network), output(other))
    assert torch.equal(output(network), before)


def test_swapped_maps_of_dense_layers_are_swapped_columns_of_their_readers():
    network = dense()
    other = copy.deepcopy(network)
    first, second = slice(8, 12), slice(12, 16)
    block = other.features.denseblock1
    transition = other.features.transition1
    for norm, conv in (
        (block.denselayer3.norm1, block.denselayer3.conv1),
        (transition.norm, transition.conv),
    ):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor[first], tensor[second] = tensor[second].clone(), tensor[first].clone()
        weight = conv.weight.data
        weight[:, first], weight[:, second] = weight[:, second].clone(), weight[:, first].clone()
    before = output(network)
    with swapped(find_units(network), [(0, 1)]):
        torch.testing.assert_close(output(network), output(other))
    with swapped(find_units(network), [(0, 1), (0, 1)]):
        torch.testing.assert_close(output(network), before)
    assert torch.equal(output(network), before)


def test_readers_read_swapped_maps_only_if_they_read_both():
    network = dense()
    intact = seen(network, network.features.transition1.norm)
    with swapped(find_units(network), [(0, 2)]):
        in_layer3 = seen(network, network.features.denseblock1.denselayer3.norm1)
        in_transition = seen(network, network.features.transition1.norm)
    torch.testing.assert_close(in_layer3, intact[:, :16])  # layer 3 has no maps of its own to read
    swapped_columns = [*range(8), *range(16, 20), *range(12, 16), *range(8, 12)]
    torch.testing.assert_close(in_transition, intact[:, swapped_columns])


def test_kendall_tau_is_that_of_scipy():
    chance = random.Random(0)
    for length in (2, 5, 9):
        order = chance.sample(range(length), length)
        expected = scipy.stats.kendalltau(range(length), order).statistic
        assert kendall_tau(order) == pytest.approx(expected)


def test_study_uses_the_given_images_and_does_not_change_the_network():
    network = dense().train()
    network.features.norm5.eval()
    state = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    batches = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]
    study = LesionStudy(network, batches, draws=3)
    intact, each = study.intact(), study.delete_each()
    several, swaps = study.delete_random([1, 5]), study.swap_random([2])
    assert [module.training for module in network.modules()] == modes
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    network.eval()
    logits = output(network)
    assert intact.error == pytest.approx(100 * (logits.argmax(1) != LABELS).float().mean().item())
    assert intact.loss == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-5)
    with deleted([study.units[3]]):
        logits = output(network)
    assert each[3].loss == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-5)
    assert [lesion.units for lesion in each] == [(unit.name,) for unit in study.units]
    drawn = [(lesion.number, lesion.draw) for lesion in several]
    assert drawn == [(1, 0), (1, 1), (1, 2), (5, 0)]  # of all five there is one set
    assert all(len(lesion.units) == 4 and lesion.tau <= 1 for lesion in swaps)


def test_equal_seeds_draw_equal_units():
    batches = [(IMAGES, LABELS)]
    one, two = (LesionStudy(dense(), batches, draws=2, seed=5) for _ in range(2))
    assert one.delete_random([2, 3]) == [*two.delete_random([2]), *two.delete_random([3])]
    assert one.swap_random([1]) == two.swap_random([1])
    other = LesionStudy(dense(), batches, draws=8, seed=6)
    drawn = [frozenset(lesion.units) for lesion in other.delete_random([1, 2])]
    assert len(drawn) == len(set(drawn)) == 5 + 8  # no set twice
    assert {units for units in drawn if len(units) == 1} == {
        frozenset({unit.name}) for unit in other.units
    }


def test_impossible_lesions_are_refused():
    study = LesionStudy(dense(), [(IMAGES, LABELS)])
    with pytest.raises(OptionError, match="the network has 5 units"):
        study.delete_random([6])
    with pytest.raises(UserError, match="no two units"):
        LesionStudy(lively(ResNet(6, 8)), [(IMAGES, LABELS)]).swap_random([1])
    with pytest.raises(UserError, match="Linear has no residual blocks"):
        LesionStudy(nn.Linear(3, 2), [])
    with pytest.raises(ValueError, match="no images"):
        LesionStudy(dense(), []).intact()


def test_figure_has_a_panel_for_each_experiment_and_a_row_for_each_lesion():
    study = LesionStudy(dense(), [(IMAGES, LABELS)], draws=2)
    lesions = [study.intact(), *study.delete_each(), *study.delete_random([1, 2])]
    drawing = draw(
        {NetworkLabel("ours", "DenseNet-BC"): lesions, NetworkLabel("again", "DenseNet-BC"): lesions}
    )
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == [
        "one deleted",
        "several deleted",
    ]
    assert len(drawing.points) == 2 * (1 + 5 + 4)
    line = drawing.figure.axes[0].get_lines()[0]
    assert list(line.get_ydata()) == [lesion.error for lesion in lesions[1:6]]


def test_swaps_are_averaged_with_those_near_them_but_not_with_the_intact_network():
    taus_and_errors = (0.98, 20.0), (0.77, 30.0), (0.73, 50.0), (0.5, 70.0)
    swaps = [Lesion("swap_random", 1, 0, (), tau, error, 1.0) for tau, error in taus_and_errors]
    intact = Lesion("intact", 0, 0, (), 1.0, 10.0, 1.0)
    drawing = draw({NetworkLabel("ours", "DenseNet-BC"): [intact, *swaps]}, "mean")
    means = drawing.figure.axes[0].get_lines()[-1]
    found = sorted(zip(means.get_xdata(), means.get_ydata(), strict=True))
    assert found == [(0.5, 70), (pytest.approx(0.75), 40), (0.98, 20), (1, 10)]
    assert "the branch outputs their means" in drawing.note


def test_the_terminal_names_the_unit_of_the_largest_error():
    study = LesionStudy(dense(), [(IMAGES, LABELS)])
    found = [study.intact(), *study.delete_each()]
    errors = [lesion.error for lesion in found[1:]]
    numbers = [f"{error:.2f}" for error in (found[0].error, sum(errors) / 5, max(errors))]
    worst = found[1 + errors.index(max(errors))].units
    (summary,) = _summaries(NetworkLabel("ours", "DenseNet-BC"), found)
    assert _row(summary) == ["ours", "5", "zeros", *numbers, *worst]


def test_zeros_and_means_stand_beside_each_other():
    batches = [(IMAGES, LABELS)]
    zeros, means = (LesionStudy(dense(), batches, replace, draws=2) for replace in ("zero", "mean"))
    ours = [zeros.intact(), *zeros.delete_each(), *means.delete_each(), *zeros.swap_random([1])]
    layers = LesionStudy(plain(), batches)
    theirs = [layers.intact(), *layers.delete_each()]
    dense_label, plain_label = NetworkLabel("D", "DenseNet-BC"), NetworkLabel("V", "VGG")
    found = [*_summaries(dense_label, ours), *_summaries(plain_label, theirs)]
    assert [(one["network"], one["replaced_by"]) for one in found] == [
        *(("D", "zero"), ("D", "mean"), ("V", "input")),
    ]
    mean_errors = [lesion.error for lesion in means.delete_each()]
    assert found[1]["one_deleted_highest_error_percent"] == max(mean_errors)
    drawing = draw({dense_label: ours, plain_label: theirs}, "both")
    first, swaps, second = drawing.figure.axes
    titles = [axes.get_title(loc="left") for axes in (first, swaps, second)]
    assert titles == ["one deleted: zeros", "pairs swapped", "one deleted: means"]
    solid = [line.get_ydata() for line in second.get_lines() if len(line.get_ydata()) > 2]
    assert list(solid[0]) == mean_errors
    assert list(solid[1]) == [lesion.error for lesion in theirs[1:]]
    replaced = {(point["experiment"], point["replaced_by"]) for point in drawing.points}
    assert replaced == {
        *(("intact", ""), ("swap_random", ""), ("delete_one", "zero")),
        *(("delete_one", "mean"), ("delete_one", "input")),
    }
