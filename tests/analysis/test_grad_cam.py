"""Grad-CAM against CAM and against its equations; the network is not changed."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.mobilenetv2 import MobileNetV2

from densenet_cli.analysis.saliency.grad_cam import grad_cam
from densenet_cli.kernels import fuse
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.history.cifar_sized import vgg_cifar
from densenet_cli.models.resnet import ResNet
from densenet_cli.models.wide_resnet import WideResNet
from densenet_cli.options import OptionError, UserError

IMAGES = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 5, 2, 2, 1])


def with_statistics(network, size=64):
    """The network with batch norms that differ from one another."""
    torch.manual_seed(0)
    network.train()(torch.randn(8, 3, size, size))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    return network


def output_of(module, network, images):
    """The output of a module in evaluation mode."""
    with torch.no_grad(), module.register_forward_hook(lambda _, __, out: seen.append(out.clone())):
        seen = []
        network.eval()(images)
    return seen[0]


@pytest.mark.parametrize(
    ("network", "last", "then", "linear"),
    [
        (fuse(DenseNet(6, 4, 10)), "features", F.relu, "classifier"),
        (DenseNet(6, 4, 10), "features", F.relu, "classifier"),
        (ResNet(6, 8), "stages", nn.Identity(), "fc"),
        (WideResNet(6, 10, 1), "bn", F.relu, "fc"),
        (MobileNetV2(6, width_mult=0.1), "features", nn.Identity(), "classifier.1"),
    ],
    ids=["DenseNet", "DenseNet by modules", "ResNet", "WRN", "MobileNet v2"],
)
def test_before_global_average_pooling_it_is_cam_divided_by_the_number_of_positions(
    network, last, then, linear
):
    with_statistics(network)
    images = F.interpolate(IMAGES, scale_factor=2)  # for MobileNet v2, whose maps are then 4x4
    maps = then(output_of(network.get_submodule(last), network, images))
    weights = network.get_submodule(linear).weight.detach()[LABELS]
    cam = torch.einsum("nc,nchw->nhw", weights, maps)
    found = grad_cam(network, images, LABELS)
    expected = F.interpolate(F.relu(cam)[:, None], images.shape[2:], mode="bilinear")[:, 0]
    torch.testing.assert_close(found * maps[0, 0].numel(), expected, rtol=1e-4, atol=1e-5)
    assert found.amax() > 0


def plain_network():
    """Maps of 32x32 that a ReLU overwrites, with more than a linear layer after them."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 7, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Flatten(), nn.Linear(7 * 32 * 32, 9), nn.Tanh(), nn.Linear(9, 6)),
    )


@pytest.mark.parametrize(("layer", "cut"), [(None, 5), ("4", 5), ("3", 4), ("0", 1)])
def test_a_named_layer_gives_the_equations_of_the_paper(layer, cut):
    network = plain_network()
    maps = network[:cut](IMAGES).detach()
    scores = torch.autograd.functional.jacobian(lambda x: network[cut:](x.clone()).sum(0), maps)
    for image, label in enumerate(LABELS[:2]):
        alpha = scores[label, image].mean(dim=(1, 2))  # equation 1
        evidence = sum(a * a_map for a, a_map in zip(alpha, maps[image], strict=True)).clamp(min=0)
        expected = F.interpolate(evidence[None, None], (64, 64), mode="bilinear")[0, 0]
        found = grad_cam(network, IMAGES[image : image + 1], label[None], layer)[0]
        torch.testing.assert_close(found, expected)


def test_maps_of_2x2_pixels_are_used_only_if_named():
    network = with_statistics(vgg_cifar(6), size=32).eval()
    images = IMAGES[:, :, :32, :32]
    found = grad_cam(network, images, LABELS)
    torch.testing.assert_close(found, grad_cam(network, images, LABELS, "features.32"))  # 4x4
    named = grad_cam(network, images, LABELS, "features.42")  # 2x2
    assert not torch.allclose(found, named)


def test_the_network_is_not_changed():
    network = with_statistics(DenseNet(6, 4, 10))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for parameter in network.parameters():
        parameter.requires_grad_(False)  # as in fine-tuning
    grad_cam(network, IMAGES, LABELS)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("features.norm", "--layer=features.norm: .* for example --layer=features.norm5"),
        ("classifier", "--layer=classifier: does not output feature maps"),
    ],
)
def test_a_named_layer_must_exist_and_output_maps(layer, said):
    with pytest.raises(OptionError, match=said):
        grad_cam(DenseNet(6, 4, 10), IMAGES, LABELS, layer)


class Attention(nn.Module):
    """Attention over patches: tensors of four dimensions, of which none is a place in the image."""

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 6)

    def forward(self, images):
        words = self.patches(images).flatten(2).mT.unflatten(2, (2, 4)).transpose(1, 2)
        return self.head(F.scaled_dot_product_attention(words, words, words).mean(2).flatten(1))


@pytest.mark.parametrize(
    "network", [nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 6)), Attention()]
)
def test_without_maps_there_is_one_clear_message(network):
    with pytest.raises(UserError, match="has no feature maps of 4x4 pixels or more"):
        grad_cam(network, IMAGES, LABELS)
