"""Parameters and multiply-adds: every published and counted size, and how they are measured."""

import pytest
import torch
from torch import nn

from densenet_cli.models.cost import count_parameters, left_out_multiply_adds, multiply_adds
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.preact_resnet import PreActResNet
from densenet_cli.models.resnet import ResNet
from densenet_cli.models.torchvision_models import torchvision_model
from densenet_cli.models.wide_resnet import WideResNet
from densenet_cli.options import OptionError

PLAIN = {"bottleneck": False, "compression": 1.0}
C = {"bottleneck": False, "compression": 0.5}  # compressed, no bottleneck
B = {"bottleneck": True, "compression": 1.0}
TORCH7 = {24: {**PLAIN, "init_channels": 24}, 48: {**PLAIN, "init_channels": 48}}


def on_meta(network_class, **options):
    with torch.device("meta"):
        return network_class(**options)


def count_weights(network):
    """Weights of convolutions and linear layers: no biases, no batch norm."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.dim() > 1)


CIFAR_DENSENETS = [
    # depth, k, kind: parameters with 10 and 100 classes, weights, multiply-adds with 10 and 100.
    # Table 2 of the paper prints 1.0, 7.0, 27.2, 0.8, 15.3 and 25.6 M for the first six; the
    # Torch7 code's README 1.5, 2.7 and 4.3 M for the next three.
    (40, 12, PLAIN, 1_019_722, 1_060_132, 1_001_616, 264_812_928, 264_853_248),
    (100, 12, PLAIN, 6_979_642, 7_084_852, 6_862_416, 1_769_516_448, 1_769_621_568),
    (100, 24, PLAIN, 27_249_082, 27_457_972, 27_017_808, 6_889_347_744, 6_889_556_544),
    (100, 12, {}, 769_162, 800_032, 745_164, 287_929_692, 287_960_472),
    (250, 24, {}, 15_324_406, 15_480_556, 15_066_420, 5_418_785_724, 5_418_941_784),
    (190, 40, {}, 25_624_430, 25_821_620, 25_367_460, 9_301_945_740, 9_302_142_840),
    (40, 36, {}, 1_542_682, 1_578_412, 1_527_408, 647_298_936, 647_334_576),
    (40, 48, {}, 2_733_130, 2_780_740, 2_712_768, 1_149_867_168, 1_149_914_688),
    (40, 60, {}, 4_261_690, 4_321_180, 4_236_240, 1_795_836_360, 1_795_895_760),
    (40, 12, {}, 176_122, 188_092, 171_024, 72_365_352, 72_377_232),
    (22, 12, {}, 71_686, 77_986, 69_684, 31_238_322, 31_244_532),
    # what the Torch7 code builds today: plain, but 2k first channels
    (40, 12, TORCH7[24], 1_059_298, 1_100_428, 1_040_568, 282_917_328, 282_958_368),
    (100, 12, TORCH7[24], 7_083_538, 7_189_468, 6_964_728, 1_816_743_408, 1_816_849_248),
    (100, 24, TORCH7[48], 28_071_706, 28_283_476, 27_834_096, 7_265_623_008, 7_265_834_688),
    # 599,050 is what the Torch7 code itself prints (liuzhuang13/DenseNet#14)
    (40, 12, C, 599_050, 622_360, 587_652, 205_906_452, 205_929_672),
    (100, 12, B, 1_210_066, 1_264_156, 1_173_624, 376_829_808, 376_883_808),
    (100, 12, C, 4_068_490, 4_129_600, 3_996_012, 1_324_548_732, 1_324_609_752),
]


@pytest.mark.parametrize(
    ("depth", "growth_rate", "kind", "parameters", "parameters_100", "weights", "macs", "macs_100"),
    [
        pytest.param(*row, marks=pytest.mark.slow if row[0] > 100 or row[1] == 24 else ())
        for row in CIFAR_DENSENETS
    ],
)
def test_cifar_densenet_sizes(
    depth, growth_rate, kind, parameters, parameters_100, weights, macs, macs_100
):
    network = on_meta(DenseNet, num_classes=10, growth_rate=growth_rate, depth=depth, **kind)
    assert count_parameters(network) == parameters
    assert count_weights(network) == weights
    assert multiply_adds(network, 32) == macs
    last_width = network.classifier.in_features
    assert parameters_100 - parameters == 90 * (last_width + 1)
    assert macs_100 - macs == 90 * last_width


CIFAR_RESNETS = [
    # parameters with 10 and 100 classes, weights, multiply-adds with 10 classes.
    # Table 6 of arXiv:1512.03385 prints 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 M for the first six.
    (ResNet, {"depth": 20}, 269_722, 275_572, 268_336, 40_551_040),
    (ResNet, {"depth": 32}, 464_154, 470_004, 461_872, 68_862_592),
    (ResNet, {"depth": 44}, 658_586, 664_436, 655_408, 97_174_144),
    (ResNet, {"depth": 56}, 853_018, 858_868, 848_944, 125_485_696),
    (ResNet, {"depth": 110}, 1_727_962, 1_733_812, 1_719_856, 252_887_680),
    (ResNet, {"depth": 1202}, 19_421_274, 19_427_124, 19_331_632, 2_829_238_912),
    (ResNet, {"depth": 20, "shortcut": "B"}, 272_474, 278_324, None, 40_813_184),
    (ResNet, {"depth": 110, "shortcut": "B"}, 1_730_714, 1_736_564, None, 253_149_824),
    (
        PreActResNet,
        {"depth": 110, "block": "basic", "shortcut": "A"},
        1_727_962,
        1_733_812,
        1_719_856,
        252_887_680,
    ),
    (PreActResNet, {"depth": 164}, 1_703_258, 1_726_388, 1_679_024, 247_646_720),
    # the DenseNet paper's 10.2 M is the weights alone
    (PreActResNet, {"depth": 1001}, 10_327_706, 10_350_836, 10_178_480, 1_490_995_712),
    (
        WideResNet,
        {"depth": 16, "widen_factor": 4},
        2_748_890,
        2_772_020,
        2_745_264,
        392_612_352,
    ),
    (
        WideResNet,
        {"depth": 16, "widen_factor": 8},
        10_961_370,
        11_007_540,
        10_954_160,
        1_548_145_664,
    ),
    (WideResNet, {"depth": 22, "widen_factor": 8}, 17_158_106, 17_204_276, None, 2_454_115_328),
    # 36,536,884 is what the authors' script prints (szagoruyko/wide-residual-networks#58)
    (
        WideResNet,
        {"depth": 28, "widen_factor": 10},
        36_479_194,
        36_536_884,
        36_461_232,
        5_243_328_768,
    ),
    (
        WideResNet,
        {"depth": 40, "widen_factor": 4},
        8_949_210,
        8_972_340,
        8_938_416,
        1_298_582_016,
    ),
]


@pytest.mark.parametrize(
    ("network_class", "options", "parameters", "parameters_100", "weights", "macs"),
    [
        pytest.param(*row, marks=pytest.mark.slow if row[1]["depth"] > 1000 else ())
        for row in CIFAR_RESNETS
    ],
)
def test_cifar_resnet_sizes(network_class, options, parameters, parameters_100, weights, macs):
    network = on_meta(network_class, num_classes=10, **options)
    assert count_parameters(network) == parameters
    if weights is not None:
        assert count_weights(network) == weights
    assert multiply_adds(network, 32) == macs
    assert count_parameters(on_meta(network_class, num_classes=100, **options)) == parameters_100


@pytest.mark.parametrize(
    ("depth", "growth_rate", "num_classes", "parameters", "macs"),
    [  # torchvision's weight metadata gives the same for 121, 169, 201, 161; arXiv:1707.06990 73 M
        (121, 32, 1000, 7_978_856, 2_834_161_664),
        (169, 32, 1000, 14_149_480, 3_359_843_328),
        pytest.param(201, 32, 1000, 20_013_928, 4_291_365_888, marks=pytest.mark.slow),
        (161, 48, 1000, 28_681_000, 7_727_907_072),
        pytest.param(264, 32, 1000, 33_337_704, 5_751_653_376, marks=pytest.mark.slow),
        (232, 48, 1000, 55_570_984, 10_119_129_600),
        pytest.param(264, 48, 1000, 72_686_632, 12_850_693_632, marks=pytest.mark.slow),
        (121, 32, 4, 6_957_956, 2_833_141_760),
    ],
)
def test_imagenet_densenet_sizes(depth, growth_rate, num_classes, parameters, macs):
    network = on_meta(
        DenseNet, num_classes=num_classes, growth_rate=growth_rate, depth=depth, stem="imagenet"
    )
    assert count_parameters(network) == parameters
    assert multiply_adds(network, 224) == macs


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [  # torchvision's weight metadata: num_params, and _ops in 1e9 rounded to 0.001
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("resnet101", 44_549_160, 7_801_405_440),
        ("resnet152", 60_192_808, 11_513_626_624),
        ("wide_resnet50_2", 68_883_240, 11_398_021_120),
        ("wide_resnet101_2", 126_886_696, 22_753_050_624),
        ("resnext50_32x4d", 25_028_904, 4_230_479_872),
        ("resnext101_32x8d", 88_791_336, 16_414_015_488),
        ("vit_b_16", 86_567_656, 17_563_828_224),  # attention counts as well
    ],
)
def test_torchvision_sizes(name, parameters, macs):
    network = on_meta(torchvision_model, name=name, num_classes=1000)
    assert count_parameters(network) == parameters
    assert multiply_adds(network, 224) == macs


THETAS = (0.25, 0.4, 0.5, 0.6, 0.75, 0.8, 1.0)
# DenseNet-BC, 10 classes: (depth, k) -> (parameters, multiply-adds) at each of THETAS
SWEEP = {
    (100, 12): (
        (611_928, 253_315_042),
        (700_956, 273_200_598),
        (769_162, 287_929_692),
        (841_276, 303_025_920),
        (966_324, 328_639_450),
        (1_009_730, 337_196_766),
        (1_210_066, 376_829_808),
    ),
    (100, 16): (
        (1_078_882, 450_141_492),
        (1_235_260, 485_592_008),
        (1_354_922, 511_578_576),
        (1_481_986, 538_416_128),
        (1_703_394, 584_075_220),
        (1_780_030, 599_601_448),
        (2_132_074, 669_622_080),
    ),
    (100, 20): (
        (1_675_578, 702_975_100),
        (1_919_886, 758_645_690),
        (2_105_370, 799_063_620),
        (2_306_694, 841_994_506),
        (2_646_018, 912_222_660),
        (2_769_114, 937_246_588),
        (3_313_410, 1_046_005_520),
    ),
    (100, 24): (
        (2_405_146, 1_012_152_270),
        (2_752_610, 1_091_469_228),
        (3_020_506, 1_150_384_824),
        (3_308_447, 1_211_965_706),
        (3_797_650, 1_313_501_118),
        (3_970_911, 1_348_719_814),
        (4_754_074, 1_505_980_128),
    ),
    (100, 32): (
        (4_255_962, 1_798_789_736),
        (4_872_742, 1_940_590_480),
        (5_344_842, 2_044_535_712),
        (5_855_334, 2_153_830_932),
        (6_720_282, 2_334_519_208),
        (7_025_946, 2_397_003_354),
        (8_413_386, 2_676_702_848),
    ),
    (100, 40): (
        (6_631_330, 2_810_053_890),
        (7_597_694, 3_032_762_238),
        (8_327_930, 3_194_031_240),
        (9_128_206, 3_366_191_646),
        (10_471_290, 3_647_129_490),
        (10_954_794, 3_746_758_392),
        (13_110_010, 4_181_790_240),
    ),
    (40, 12): (
        (150_442, 66_319_296),
        (164_790, 69_745_800),
        (176_122, 72_365_352),
        (187_741, 74_926_802),
        (209_002, 79_517_448),
        (215_626, 80_879_468),
        (249_946, 87_996_768),
    ),
    (40, 24): (
        (590_026, 263_948_160),
        (646_066, 277_653_776),
        (690_346, 288_131_664),
        (737_549, 298_863_790),
        (818_890, 316_739_088),
        (846_709, 322_704_354),
        (979_114, 350_655_168),
    ),
    (40, 40): (
        (1_625_930, 731_712_640),
        (1_782_466, 770_649_886),
        (1_901_930, 798_888_240),
        (2_033_282, 829_027_198),
        (2_255_690, 878_352_240),
        (2_335_434, 895_785_176),
        (2_696_810, 972_562_240),
    ),
}


def sweep_network(depth, growth_rate, theta):
    return on_meta(DenseNet, num_classes=10, growth_rate=growth_rate, depth=depth, compression=theta)


@pytest.mark.parametrize(("depth", "growth_rate"), SWEEP)
def test_parameters_over_growth_rate_and_compression(depth, growth_rate):
    for theta, (parameters, _) in zip(THETAS, SWEEP[depth, growth_rate], strict=True):
        assert count_parameters(sweep_network(depth, growth_rate, theta)) == parameters, theta


@pytest.mark.parametrize(
    ("depth", "growth_rate"),
    [pytest.param(*net, marks=pytest.mark.slow if net[0] == 100 else ()) for net in SWEEP],
)
def test_multiply_adds_over_growth_rate_and_compression(depth, growth_rate):
    for theta, (_, macs) in zip(THETAS, SWEEP[depth, growth_rate], strict=True):
        assert multiply_adds(sweep_network(depth, growth_rate, theta), 32) == macs, theta


@pytest.mark.parametrize(
    ("depth", "growth_rate", "options", "parameters", "macs"),
    [
        (10, 4, {"init_channels": 8}, 2_666, 1_242_714),
        (16, 8, {"init_channels": 16}, 20_266, 9_011_520),
        (22, 12, {}, 71_686, 31_238_322),
        (7, 4, {**PLAIN, "init_channels": 16}, 4_122, 1_829_144),
        (13, 4, {**C, "init_channels": 8}, 5_702, 2_306_022),
        (10, 5, {"init_channels": 10}, 3_969, 1_860_462),
        (16, 3, {"init_channels": 6, "compression": 0.3}, 2_886, 1_295_696),
    ],
)
def test_tiny_densenet_sizes(depth, growth_rate, options, parameters, macs):
    network = on_meta(DenseNet, num_classes=10, growth_rate=growth_rate, depth=depth, **options)
    assert count_parameters(network) == parameters
    assert multiply_adds(network, 32) == macs


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, kernel_size=3, padding=1),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def test_counts_are_those_done_by_hand():
    network = small_network()
    assert count_parameters(network) == (3 * 9 * 8 + 8) + (8 + 8) + (8 * 5 + 5)
    assert multiply_adds(network, (10, 6)) == 3 * 9 * 8 * 10 * 6 + 8 * 5
    assert multiply_adds(network, 10) == 3 * 9 * 8 * 10 * 10 + 8 * 5


def test_a_shared_parameter_is_counted_once():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    assert count_parameters(network) == 16


def test_network_is_left_as_it_was():
    network = small_network().train()
    network[1].eval()  # frozen statistics
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    multiply_adds(network, 8)
    assert [module.training for module in network] == [True, False, True, True, True]
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert all(isinstance(parameter, nn.Parameter) for parameter in network.parameters())
    assert network(torch.zeros(2, 3, 8, 8)).requires_grad


def test_weights_are_not_copied(monkeypatch):
    def copied(tensor, memo):
        raise AssertionError(f"copied {tuple(tensor.shape)}")

    monkeypatch.setattr(torch.Tensor, "__deepcopy__", copied)
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", copied)
    assert multiply_adds(small_network(), 1) == 3 * 9 * 8 + 8 * 5


@pytest.mark.parametrize("image_size", [0, -1, (0, 8), (8, 0), (8, 2.5)])
def test_image_without_pixels_is_refused(image_size):
    with pytest.raises(OptionError, match="image_size="):
        multiply_adds(small_network(), image_size)


def test_stochastic_depth_leaves_out_each_branch_by_its_chance():
    with torch.device("meta"):
        network = ResNet(10, 20, "B", survival_probability=0.5)
        constant = ResNet(10, 20, "B")
    full = multiply_adds(constant, 32)
    assert left_out_multiply_adds(constant, 32) == 0
    assert multiply_adds(network, 32) == full  # of an evaluation
    block = 2 * 9 * 16 * 16 * 32 * 32  # of any block; where the shape changes the first half of it less
    sizes = [block, block, block, 0.75 * block, block, block, 0.75 * block, block, block]
    expected = sum(0.5 * position / 9 * size for position, size in enumerate(sizes, start=1))
    assert left_out_multiply_adds(network, 32) == pytest.approx(expected, abs=1)
    # arXiv:1603.09382, section 3: with p_L = 0.5, 40 of the 54 blocks of ResNet-110 on average
    with torch.device("meta"):
        deep = ResNet(10, 110, survival_probability=0.5)
    assert 1 - left_out_multiply_adds(deep, 32) / multiply_adds(deep, 32) == pytest.approx(
        40.25 / 54, abs=0.003
    )
