"""The kernels attached to DenseNets of several libraries, and detached again."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
import torchvision
from test_fused_densenet import assert_close, by_kernels, step, with_fused_copy
from torch import nn

from densenet_cli.kernels import attach, fuse, implementation, is_fused, unfuse
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.resnet import ResNet
from densenet_cli.options import OptionError, UserError

timm = pytest.importorskip("timm")

SMALL = {"growth_rate": 12, "block_config": (2, 3, 2), "num_classes": 10}


def from_torchvision(**options):
    return torchvision.models.DenseNet(**{**SMALL, "num_init_features": 24, **options})


def from_timm(name="densenet121", **options):
    return timm.create_model(name, **{**SMALL, **options})


def ours(**options):
    return DenseNet(10, 12, 0, block_config=[2, 3, 2], stem="imagenet", **options)


SMALL_NETWORKS = {
    "ours": ours,
    "torchvision": from_torchvision,
    "timm": from_timm,
    "timm, deep stem": lambda: from_timm("densenet264d"),
    "timm, blurred max pooling": lambda: from_timm("densenetblur121d"),
}
WHOLE_NETWORKS = {
    **{f"torchvision {depth}": f"densenet{depth}" for depth in (121, 161, 169, 201)},
    **{f"timm {name}": name for name in timm.list_models("*densenet*")},
}


@pytest.fixture(params=SMALL_NETWORKS)
def networks(request):
    torch.manual_seed(0)
    return with_fused_copy(SMALL_NETWORKS[request.param]().double())


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(3, 3, 70, 57, dtype=torch.float64)


def check_steps(reference, fused, images, tolerance=1e-11):
    """Training steps and evaluations leave the same outputs, gradients and running statistics."""
    assert by_kernels(fused, images)
    labels = torch.arange(len(images))
    for is_training in (True, True, False):
        found, expected = (
            step(network.train(is_training), images, labels) for network in (fused, reference)
        )
        assert_close(found, expected, tolerance)


def test_a_fused_network_computes_what_its_modules_compute(networks, images):
    check_steps(*networks, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_NETWORKS)
def test_all_densenets_of_torchvision_and_timm_are_computed(name):
    torch.manual_seed(0)
    library, _, _ = name.partition(" ")
    if library == "torchvision":
        network = torchvision.models.get_model(WHOLE_NETWORKS[name], num_classes=10)
    else:
        network = timm.create_model(WHOLE_NETWORKS[name], num_classes=10)
    # Errors of rounding grow with depth: these networks have up to 264 layers.
    check_steps(
        *with_fused_copy(network.double()),
        torch.randn(3, 3, 64, 64, dtype=torch.float64),
        tolerance=1e-9,
    )


def test_no_densenet_of_torchvision_is_left_out():
    found = {name for name in torchvision.models.list_models() if name.startswith("densenet")}
    assert found == {name for name in WHOLE_NETWORKS.values() if name in found}


def test_fusing_changes_nothing_but_the_class_and_is_undone(networks, images):
    reference, fused = networks
    assert type(fused).__name__ == type(reference).__name__
    assert isinstance(fused, type(reference))
    assert repr(fused) == repr(reference)
    assert list(fused.state_dict()) == list(reference.state_dict())
    assert vars(fused).keys() == vars(reference).keys()
    parameters = [*fused.parameters()]
    assert fuse(fused) is fused
    assert unfuse(fused) is fused
    assert type(fused) is type(reference)
    assert all(one is other for one, other in zip(fused.parameters(), parameters, strict=True))
    assert torch.equal(fused.eval()(images), reference.eval()(images))
    unfuse(fused)
    assert not is_fused(fused)


def test_copies_and_pickles_are_fused_and_compute_with_their_own_weights(networks, images):
    _, fused = networks
    fused.eval()
    expected = fused(images)
    copies = [copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))]
    with io.BytesIO() as file:
        torch.save(fused, file)
        file.seek(0)
        copies.append(torch.load(file, weights_only=False))
    nn.init.zeros_(fused.features.norm5.weight)
    for one in copies:
        assert by_kernels(one, images)
        assert torch.equal(one(images), expected)
    shallow = unfuse(copy.copy(fused))
    assert shallow.features is fused.features
    assert is_fused(fused)


def test_a_state_dict_is_loaded_by_fused_and_unfused_alike(networks, images):
    reference, fused = networks
    nn.init.zeros_(reference.features.norm5.weight)
    fused.load_state_dict(reference.state_dict())
    assert torch.allclose(fused.eval()(images), reference.eval()(images), atol=1e-12)


def test_hooks_on_the_network_and_on_its_modules_are_called(networks, images):
    reference, fused = networks
    calls = []
    fused.register_forward_hook(lambda module, inputs, output: calls.append("network"))
    fused.eval()(images)
    assert calls == ["network"]
    assert by_kernels(fused, images)
    inside = [module for module in fused.features.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in inside:
        module.register_forward_hook(lambda module, inputs, output: calls.append(module))
    assert torch.equal(fused(images), reference.eval()(images))
    assert {*calls} == {"network", *inside}


def test_a_hook_on_the_last_pooling_is_called(images):
    _, fused = with_fused_copy(from_timm().double())
    calls = []
    fused.global_pool.register_forward_hook(lambda *_: calls.append(1))
    fused(images)
    fused.head_drop.register_forward_hook(lambda *_: calls.append(2))
    fused(images)
    assert calls == [1, 1, 2]


DROPOUT = pytest.mark.parametrize(
    ("make", "option"), [(from_torchvision, "drop_rate"), (from_timm, "proj_drop_rate")]
)


@DROPOUT
def test_dropout_of_other_libraries_depends_on_the_seed_and_ends_in_evaluation(make, option, images):
    network = fuse(make(**{option: 0.25}).double())
    assert by_kernels(network, images)
    torch.manual_seed(2)
    one, other = network(images), network(images)
    torch.manual_seed(2)
    assert torch.equal(network(images), one)
    assert not torch.equal(one, other)
    assert torch.equal(network.eval()(images), network(images))


@DROPOUT
def test_dropout_of_other_libraries_is_of_the_same_distribution(make, option):
    torch.manual_seed(0)
    network, images = make(block_config=(1,), **{option: 0.25}), torch.randn(200, 3, 64, 64)
    last = network.features.norm5
    last.momentum = 1.0  # so that it holds the statistics of the dropped maps
    network(images)
    mean, variance = last.running_mean.clone(), last.running_var.clone()
    fuse(network)(images)
    torch.testing.assert_close(last.running_mean, mean, rtol=0.05, atol=0.02)
    torch.testing.assert_close(last.running_var, variance, rtol=0.05, atol=0.0)
    network.features.denseblock1.denselayer1.drop_rate = 0.0
    network(images)
    assert (last.running_var[24:] < 0.9 * variance[24:]).all()  # as it is without dropout


@pytest.mark.slow
def test_torch_compile_and_export_see_the_modules(networks, images):
    reference, fused = (network.eval() for network in networks)
    expected = reference(images)
    compiled = torch.compile(fused, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected)
    batch = {0: torch.export.Dim("batch", min=2)}
    (name,) = torch.export.export(reference, (images,)).graph_signature.user_inputs
    program = torch.export.export(fused, (images,), dynamic_shapes={name: batch})
    torch.testing.assert_close(program.module()(images), expected)
    with torch.device("meta"):
        assert fused.to("meta")(images.to("meta")).shape == (3, 10)


def test_functional_call_computes_with_the_given_weights(networks, images):
    reference, fused = (network.eval() for network in networks)
    others = {name: 2 * parameter for name, parameter in reference.named_parameters()}
    found, expected = (
        torch.func.functional_call(network, others, (images,)) for network in (fused, reference)
    )
    torch.testing.assert_close(found, expected)


def test_images_may_be_named_and_wrong_arguments_are_refused(networks, images):
    reference, fused = (network.eval() for network in networks)
    name = "images" if type(reference) is DenseNet else "x"
    torch.testing.assert_close(fused(**{name: images}), reference(images))
    with pytest.raises(TypeError):
        fused(images, images)


def test_too_small_images_are_refused_as_by_the_modules():
    for make in SMALL_NETWORKS.values():
        reference, fused = with_fused_copy(make().double())
        small = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        with pytest.raises(Exception, match="small") as expected:
            reference(small)
        with pytest.raises(type(expected.value), match="small"):
            fused(small)


class Doubled(torchvision.models.DenseNet):
    """A user's subclass with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Named(torchvision.models.DenseNet):
    """A user's subclass that computes what torchvision's does."""


def rewritten():
    network = from_torchvision()
    before = network.forward
    network.forward = lambda x: 2 * before(x)
    return network


def without_pool():
    network = from_torchvision()
    network.features.transition1.pool = nn.AvgPool2d(3, 2, 1)
    return network


def with_an_option_in(place):
    """A network one of whose modules got an option that the kernels do not know."""
    network = ours()
    network.get_submodule(place).activation = torch.nn.functional.gelu
    return network


UNFIT = {
    "an option of a layer": (
        lambda: with_an_option_in("features.denseblock2.denselayer3"),
        r"features\.denseblock2\.denselayer3 has attributes that the kernels do not know: activation",
    ),
    "an option of a transition": (
        lambda: with_an_option_in("features.transition1"),
        r"features\.transition1 has attributes that the kernels do not know: activation",
    ),
    "resnet": (lambda: ResNet(10, 20), "this ResNet cannot be fused: it is not computed by the class"),
    "subclass": (lambda: Doubled(block_config=(1, 1)), "this Doubled cannot be fused: it is not comp"),
    "forward replaced": (rewritten, "its forward method was replaced"),
    "checkpointing": (
        lambda: from_torchvision(memory_efficient=True),
        r"denseblock1\.denselayer1\.memory_efficient is true, .* set it to false",
    ),
    "timm's checkpointing": (
        lambda: from_timm(memory_efficient=True),
        r"grad_checkpointing is true",
    ),
    "another pool": (without_pool, r"transition1\.pool is AvgPool2d\(.*average 2 x 2 pixels"),
    "blurred pooling": (
        lambda: from_timm("densenetblur121d", aa_stem_only=False),
        r"transition1\.pool is BlurPool2d instead of AvgPool2d",
    ),
    "another activation": (
        lambda: from_timm(act_layer="silu"),
        r"features\.norm0\.act is SiLU instead of ReLU",
    ),
    "another norm": (
        lambda: from_timm(norm_layer="groupnorm", growth_rate=32, block_config=(2, 2)),
        r"features\.norm5 is GroupNormAct instead of BatchNormAct2d",
    ),
    "largest values": (
        lambda: from_timm(global_pool="max"),
        r"global_pool\.pool is AdaptiveMaxPool2d instead of AdaptiveAvgPool2d",
    ),
    "no pooling": (
        lambda: from_timm(num_classes=0, global_pool=""),
        r"global_pool\.pool is Identity instead of",
    ),
    "all dropped": (lambda: from_torchvision(drop_rate=1.0), "everything is dropped"),
    "half precision": (lambda: from_torchvision().half(), r"its parameters are of torch\.float16"),
    "a bias": (
        lambda: from_torchvision().apply(
            lambda module: (
                setattr(module, "bias", nn.Parameter(torch.zeros(12)))
                if getattr(module, "out_channels", None) == 12
                else None
            )
        ),
        r"Conv2d\(48, 12, .* is no ordinary 3 x 3 convolution of 48 feature maps",
    ),
    "a parallel network": (
        lambda: nn.Sequential(from_torchvision()),
        "this Sequential cannot be fused",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_fused_is_refused_with_the_reason(name):
    make, message = UNFIT[name]
    network = make()
    with pytest.raises(UserError, match=message):
        fuse(network)
    assert not is_fused(network)


def test_a_subclass_that_computes_the_same_is_fused(images):
    torch.manual_seed(0)
    check_steps(*with_fused_copy(Named(12, (2, 3, 2), 24, num_classes=10).double()), images)


def test_a_layer_that_begins_to_checkpoint_is_computed_by_its_modules(images):
    _, fused = with_fused_copy(from_timm().double())
    fused.set_grad_checkpointing()
    assert not by_kernels(fused, images)
    fused.set_grad_checkpointing(False)
    assert by_kernels(fused, images)


def test_auto_fuses_on_the_cpu_what_can_be_fused(caplog):
    networks = {
        "fused": (from_torchvision(), "cpu"),
        "reference": (from_torchvision(), "cuda"),  # must be asked for
        None: (ResNet(10, 20), "cpu"),
    }
    for expected, (network, device) in networks.items():
        attach(network, "auto", device)
        assert implementation(network) == expected
    assert not caplog.text
    network = from_torchvision(memory_efficient=True)
    attach(network, "auto", "cpu")
    assert implementation(network) is None
    assert "memory_efficient is true" in caplog.text


def test_reference_fuses_nothing_and_fused_is_refused_where_it_cannot_be():
    network = from_torchvision()
    attach(network, "reference", "cpu")
    assert implementation(network) == "reference"
    with pytest.raises(OptionError, match=r"implementation=fused: this ResNet .*implementation=auto"):
        attach(ResNet(10, 20), "fused", "cpu")
    with pytest.raises(
        OptionError, match="implementation=often: must be one of auto, fused, reference"
    ):
        attach(network, "often", "cpu")
    with pytest.raises(OptionError, match="for the device mps"):
        attach(network, "fused", "mps")


def test_the_kernels_are_loaded_without_other_libraries():
    code = (
        "import sys, densenet_cli.kernels\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not names & {'torchvision', 'timm', 'triton', 'lightning'}, names\n"
        "assert 'densenet_cli.kernels.cpu.engine' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_the_2d_densenet_of_monai_is_computed(images):
    nets = pytest.importorskip("monai.networks.nets")
    options = {"growth_rate": 12, "init_features": 24, "block_config": (2, 3, 2)}
    torch.manual_seed(0)
    check_steps(*with_fused_copy(nets.DenseNet(2, 3, 10, **options).double()), images)
    with pytest.raises(UserError, match=r"dropout is Dropout2d instead of Dropout"):
        fuse(nets.DenseNet(2, 3, 10, dropout_prob=0.2, **options))
    with pytest.raises(UserError, match="cannot be fused"):
        fuse(nets.DenseNet(3, 3, 10, **options))
