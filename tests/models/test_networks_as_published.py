"""AlexNet, GoogLeNet, Inception-ResNet v1 and ResNeXt-101 32x48d: their papers' sizes and layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densenet_cli.models.cost import count_parameters, multiply_adds
from densenet_cli.models.history.alexnet import AlexNet, local_response_normalisation
from densenet_cli.models.history.googlenet import MODULES, AuxiliaryPooling, GoogLeNet
from densenet_cli.models.history.inception_resnet import InceptionResNetV1
from densenet_cli.models.history.lenet import LeNet5
from densenet_cli.models.torchvision_models import torchvision_model
from densenet_cli.options import OptionError


def on_meta(make, num_classes=1000, **options):
    with torch.device("meta"):
        return make(num_classes, **options)


def outputs(network, side, kinds):
    """The shapes that the innermost modules of these kinds give for one image, in order."""
    found = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _, __, output: found.append(tuple(output.shape[1:])))
    network.eval()(torch.empty(1, 3, side, side, device="meta"))
    return found


@pytest.mark.parametrize(
    ("make", "options", "side", "parameters", "multiply_adds_"),
    [
        # BVLC/caffe, models/bvlc_alexnet and bvlc_googlenet, as Netscope counts them; the multiply-adds
        # of AlexNet: Sze et al. 2017, arXiv:1703.09039, table II (724M)
        (AlexNet, {}, 224, 60_965_224, 724_406_816),
        (GoogLeNet, {}, 224, 6_998_552, 1_582_671_872),
        (GoogLeNet, {"auxiliary": True}, 224, 13_378_280, 1_582_671_872),
    ],
)
def test_sizes_are_those_of_the_caffe_models(make, options, side, parameters, multiply_adds_):
    network = on_meta(make, **options)
    assert count_parameters(network) == parameters
    assert multiply_adds(network, side) == multiply_adds_


def test_resnext_101_32x48d_has_the_size_that_its_authors_print():
    network = on_meta(lambda n: torchvision_model("resnet101", n, groups=32, width_per_group=48))
    assert count_parameters(network) / 1e6 == pytest.approx(829, abs=1)  # README of WSL-Images
    assert f"{multiply_adds(network, 224) / 1e9:.0f}" == "153"  # the same; there "FLOPS"
    assert network.layer1[0].conv2.groups == 32
    assert network.layer1[0].conv2.out_channels == 32 * 48


def test_a_lenet_with_max_pooling_and_all_connections_is_the_usual_one_of_today():
    usual = on_meta(LeNet5, num_classes=10, pooling="max", connections="all")
    assert count_parameters(usual) == 62_006  # PyTorch's tutorial on CIFAR-10
    assert multiply_adds(usual, 32) == 28**2 * 6 * 75 + 10**2 * 16 * 150 + 120 * 400 + 84 * 120 + 840
    partial = on_meta(LeNet5, num_classes=10, pooling="max")
    assert count_parameters(partial) == 61_150 - 2 * (6 + 16)
    network = LeNet5(10, pooling="max")
    maps = torch.randn(2, 6, 28, 28)
    assert torch.equal(network.s2(maps), F.max_pool2d(maps, 2))
    for option in ("pooling", "connections"):
        with pytest.raises(OptionError, match=f"^{option}=average: must be one of "):
            LeNet5(10, **{option: "average"})


def test_alexnet_has_the_papers_maps_and_start_values():
    found = outputs(on_meta(AlexNet), 224, (nn.Conv2d, nn.Linear))
    neurons = [torch.Size(shape).numel() for shape in found]
    # Section 3.5; its 253,440 for the first layer is not 96 maps of 55x55, which figure 2 shows
    assert neurons == [96 * 55 * 55, 186_624, 64_896, 64_896, 43_264, 4_096, 4_096, 1_000]
    assert outputs(on_meta(AlexNet), 224, nn.MaxPool2d) == [(96, 27, 27), (256, 13, 13), (256, 6, 6)]
    convolutions = [m for m in on_meta(AlexNet).modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(conv.weight.shape[1:]) for conv in convolutions] == [  # kernels of section 3.5
        *((3, 11, 11), (48, 5, 5), (256, 3, 3), (192, 3, 3), (192, 3, 3)),
    ]
    network = AlexNet(2)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert [layer.bias.unique().tolist() for layer in layers] == [
        [0],
        [1],
        [0],
        [1],
        [1],
        [1],
        [1],
        [0],
    ]
    assert layers[4].weight.std().item() == pytest.approx(0.01, rel=0.01)


def test_alexnet_normalises_responses_as_in_its_paper():
    layer = local_response_normalisation()
    maps = torch.rand(1, 7, 2, 2, dtype=torch.double) * 100
    for index in range(7):
        near = maps[:, max(0, index - 2) : index + 3].square().sum(dim=1)
        expected = maps[:, index] / (2 + 1e-4 * near) ** 0.75  # section 3.3
        torch.testing.assert_close(layer(maps)[:, index], expected)


def test_googlenet_has_the_rows_of_table_1():
    network = on_meta(GoogLeNet)
    rows = {  # output, parameters in thousands, multiply-adds in millions
        "3a": ((256, 28, 28), 159, 128),
        "3b": ((480, 28, 28), 380, 304),
        "4a": ((512, 14, 14), 364, 73),
        "4b": ((512, 14, 14), 437, 88),
        "4c": ((512, 14, 14), 463, 100),
        "4d": ((528, 14, 14), 580, 119),
        "4e": ((832, 14, 14), 840, 170),
        "5a": ((832, 7, 7), 1072, 54),
        "5b": ((1024, 7, 7), 1388, 71),
    }
    modules = [m for m in network.modules() if type(m).__name__ == "Branches"]
    found = outputs(network, 224, type(modules[0]))
    assert len(modules) == len(found) == len(rows)
    for module, shape, (name, (expected, thousands, millions)) in zip(
        modules, found, rows.items(), strict=True
    ):
        assert shape == expected, name
        assert MODULES[name].total == expected[0]
        weights = sum(p.numel() for p in module.parameters() if p.ndim > 1)
        assert weights / 1024 == pytest.approx(thousands, rel=0.08), name
        assert weights * shape[1] * shape[2] / 1e6 == pytest.approx(millions, rel=0.08), name
    pooled = outputs(on_meta(GoogLeNet), 224, nn.MaxPool2d)
    inside = [(192, 28, 28), (256, 28, 28), (480, 14, 14), *[(512, 14, 14)] * 3, (528, 14, 14)]
    assert (
        pooled
        == [  # one with stride 2 before 3a, 4a and 5a and after conv1; those of the modules
            *((64, 56, 56), (192, 28, 28), *inside[:2], (480, 14, 14), *inside[2:]),
            *((832, 7, 7), (832, 7, 7), (832, 7, 7)),
        ]
    )


def test_auxiliary_classifiers_of_googlenet_are_those_of_section_5():
    network = on_meta(GoogLeNet, auxiliary=True)
    averaged = []
    for classifier in network.auxiliary:
        classifier[0].register_forward_hook(lambda _, __, out: averaged.append(tuple(out.shape[1:])))
        linear = [m for m in classifier if isinstance(m, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in linear] == [(2048, 1024), (1024, 1000)]
        assert [m.p for m in classifier if isinstance(m, nn.Dropout)] == [0.7]
    images = torch.empty(2, 3, 224, 224, device="meta")
    assert network.train()(images).shape == (3, 2, 1000)
    assert averaged == [(512, 4, 4), (528, 4, 4)]
    assert network.eval()(images).shape == (2, 1000)
    assert len(averaged) == 2  # nothing is computed for them in evaluation
    maps = torch.randn(2, 3, 14, 14)
    assert torch.equal(AuxiliaryPooling()(maps), F.avg_pool2d(maps, 5, 3))


def test_googlenets_outputs_are_those_of_three_networks():
    torch.manual_seed(0)
    network = GoogLeNet(4, auxiliary=True, dropout=0.0).train()
    for classifier in network.auxiliary:
        classifier[5].p = 0.0
    images = torch.randn(2, 3, 48, 48)
    found = network(images)
    maps_4a = network.to_4a(network.stem(images))
    torch.testing.assert_close(found[0], copy.deepcopy(network).eval()(images))
    torch.testing.assert_close(found[1], network.auxiliary[0](maps_4a))
    torch.testing.assert_close(found[2], network.auxiliary[1](network.to_4d(maps_4a)))


@pytest.mark.slow
def test_inception_resnet_v1_computes_what_an_independent_one_does():
    """pytorchcv's has one unit more, as facenet's, and another classifier; the rest must be equal."""
    provider = pytest.importorskip("pytorchcv.model_provider")
    torch.manual_seed(0)
    theirs, ours = provider.get_model("inceptionresnetv1").double(), InceptionResNetV1(10).double()
    features = theirs.features
    del features.stage3[-1]
    for norm in (m for m in features.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.running_mean, std=0.1)
    parts = [ours.stem, ours.a, ours.reduction_a, ours.b, ours.reduction_b, ours.c]
    own = {
        f"{i}.{key}": value for i, part in enumerate(parts) for key, value in part.state_dict().items()
    }
    copied = list(features.state_dict().values())
    assert [value.shape for value in own.values()] == [value.shape for value in copied]
    for value, other in zip(own.values(), copied, strict=True):
        value.copy_(other)
    images = torch.randn(1, 3, 299, 299, dtype=torch.double)
    maps = images
    for part in parts:
        maps = part.eval()(maps)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), features.eval()(images).flatten(1))


def test_inception_resnet_v1_has_the_papers_maps():
    network = on_meta(InceptionResNetV1)
    parts = ["stem", "a", "reduction_a", "b", "reduction_b", "c"]
    found = {}
    for name in parts:
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: found.update({name: tuple(output.shape[1:])})
        )
    assert network.eval()(torch.empty(1, 3, 299, 299, device="meta")).shape == (1, 1000)
    sizes = [(256, 35), (256, 35), (896, 17), (896, 17), (1792, 8), (1792, 8)]  # figures 14 and 15
    assert found == {name: (c, n, n) for name, (c, n) in zip(parts, sizes, strict=True)}
    assert [len(network.get_submodule(name)) for name in "abc"] == [5, 10, 5]
    # pytorchcv 0.0.74 less its last unit and with this classifier: 23,995,624 - 1,600,768 - 1,431,528
    # + 1,793,000
    assert count_parameters(network) == 22_756_328
