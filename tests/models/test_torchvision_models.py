"""The networks of torchvision and timm, by name."""

import sys

import pytest
import torch

from densenet_cli.models.cost import count_parameters
from densenet_cli.models.timm_models import timm_model
from densenet_cli.models.torchvision_models import torchvision_model
from densenet_cli.options import OptionError, UserError


def on_meta(build, name, num_classes=1000, **options):
    with torch.device("meta"):
        return build(name, num_classes, **options)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # torchvision's weight metadata; the two with auxiliary heads are counted without them
        ("alexnet", 61_100_840),
        ("vgg16", 138_357_544),
        ("vgg16_bn", 138_365_992),
        ("vgg19", 143_667_240),
        ("googlenet", 6_624_904),
        ("inception_v3", 23_834_568),
        ("resnext101_64x4d", 83_455_272),
        ("mobilenet_v2", 3_504_872),
        ("shufflenet_v2_x1_0", 2_278_604),
        ("densenet121", 7_978_856),
    ],
)
def test_torchvision_network_has_its_published_size(name, parameters):
    assert count_parameters(on_meta(torchvision_model, name)) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # counted in timm 1.0.31
        ("rdnet_tiny", 23_863_008),
        ("dpn68", 12_611_602),
        ("ese_vovnet39b", 24_568_936),
        ("densenetblur121d", 7_998_088),
        ("densenet264d", 72_736_216),
        ("inception_v4", 42_679_816),
        ("legacy_xception", 22_855_952),
    ],
)
def test_timm_network_has_its_published_size(name, parameters):
    pytest.importorskip("timm")
    assert count_parameters(on_meta(timm_model, name)) == parameters


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 96)])
def test_auxiliary_heads_are_left_out_so_that_logits_are_a_tensor(name, size):
    network = on_meta(torchvision_model, name, num_classes=7).train()
    assert network(torch.empty(2, 3, size, size, device="meta")).shape == (2, 7)


def test_options_reach_the_builder():
    network = on_meta(torchvision_model, "densenet121", drop_rate=0.25)
    assert network.features.denseblock1.denselayer1.drop_rate == 0.25
    pytest.importorskip("timm")
    network = on_meta(timm_model, "densenet121", drop_rate=0.25)
    assert network.head_drop.p == 0.25


@pytest.mark.parametrize("build", [torchvision_model, timm_model])
def test_unknown_name_is_answered_with_the_nearest(build):
    if build is timm_model:
        pytest.importorskip("timm")
    with pytest.raises(OptionError, match=r"name=densnet121: .*known names; for example name=dense"):
        build("densnet121", 10)
    with pytest.raises(OptionError, match="num_classes=0"):
        build("densenet121", 0)


@pytest.mark.parametrize("build", [torchvision_model, timm_model])
def test_unknown_option_is_named(build):
    if build is timm_model:
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"densenet121 does not take .*'no_such_option'"):
        on_meta(build, "densenet121", no_such_option=1)


def test_missing_timm_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'densenet-cli\[timm\]'"):
        timm_model("rdnet_tiny", 10)
