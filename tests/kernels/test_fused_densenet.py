"""The fused DenseNet beside the same network computed by its modules."""

import contextlib
import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from densenet_cli.kernels import attach, fuse, fusion, is_fused, selection, trunk, unfuse
from densenet_cli.kernels.cpu import compilation
from densenet_cli.models.densenet import DenseNet
from densenet_cli.options import OptionError

PLAIN = {"bottleneck": False, "compression": 1.0}
NETWORKS = {  # options, images (N, H, W)
    "BC": ({"growth_rate": 12, "depth": 16}, (4, 32, 32)),
    "BC, k=5, odd sizes": ({"growth_rate": 5, "depth": 10}, (3, 9, 7)),
    "BC, batch of 1": ({"growth_rate": 7, "depth": 10}, (1, 13, 8)),
    "BC, k=40": ({"growth_rate": 40, "depth": 10}, (2, 12, 12)),
    "BC, bottlenecks of k maps": ({"growth_rate": 9, "depth": 10, "bn_size": 1}, (3, 9, 7)),
    "BC, bottlenecks of 7k maps": ({"growth_rate": 5, "depth": 10, "bn_size": 7}, (3, 9, 7)),
    "B": ({"growth_rate": 12, "depth": 22, "compression": 1.0}, (2, 16, 16)),
    "plain": ({"growth_rate": 12, "depth": 13, **PLAIN}, (3, 16, 16)),
    "C, one layer a block": ({"growth_rate": 33, "depth": 7, "bottleneck": False}, (3, 9, 7)),
    "imagenet stem": (
        {"growth_rate": 32, "depth": 121, "block_config": [2, 3, 2], "stem": "imagenet"},
        (2, 57, 63),
    ),
    "one pixel at the end": ({"growth_rate": 4, "depth": 10}, (5, 4, 4)),
}


def pair(options, dtype=torch.float64, seed=0):
    """A DenseNet of ours and a fused copy."""
    torch.manual_seed(seed)
    return with_fused_copy(DenseNet(10, **options).to(dtype))


def with_fused_copy(network):
    """The network with random parameters of batch norms, and a fused copy.

    At their start values some gradients are zero but for rounding.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network, fuse(copy.deepcopy(network))


def step(network, images, labels, autocast=False):
    """The results of a training step: logits, gradients, buffers."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = network(images)
    F.cross_entropy(logits.double(), labels).backward()
    left = {"logits": logits, "images": images.grad, **dict(network.named_buffers())}
    return left | {name: parameter.grad for name, parameter in network.named_parameters()}


def assert_close(found, expected, tolerance):
    """Differences in each tensor are at most `tolerance` times its largest number."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = tensor.double().abs().max().item() or 1.0
        difference = (found[name].double() - tensor.double()).abs().max().item()
        assert difference <= tolerance * scale, f"{name}: {difference / scale}"


def assert_as_near_to_the_truth(name, draws=4):
    """In bfloat16, steps of the fused network are as close to those in float64 as the reference's.

    In the mean of several draws, because in a small batch one number that a ReLU cuts off matters.
    """
    options, (images, height, width) = NETWORKS[name]
    distances = []
    for seed in range(draws):
        reference, fused = pair(options, torch.float32, seed)
        batch, labels = torch.randn(8 * images, 3, height, width), torch.randint(10, (8 * images,))
        truth = step(copy.deepcopy(reference).double(), batch.double(), labels)
        found = [step(network, batch, labels, autocast=True) for network in (fused, reference)]
        distances.append([[relative(one[key], truth[key]) for key in truth] for one in found])
    of_fused, of_reference = torch.tensor(distances).mean(0)
    assert of_fused.mean() <= 1.1 * of_reference.mean()
    assert 0 < of_fused.median() < 0.2


@contextlib.contextmanager
def threads_of(number):
    """Let torch and the kernels use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def relative(found, true):
    """The relative difference of two tensors, in norms."""
    return ((found.double() - true.double()).norm() / (true.double().norm() + 1e-12)).item()


# In float32 a number may be rounded across zero before a ReLU.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_fused_equals_reference(name, dtype, tolerance):
    options, (images, height, width) = NETWORKS[name]
    reference, fused = pair(options, dtype)
    batch = torch.randn(images, 3, height, width, dtype=dtype) + 0.5
    labels = torch.randint(10, (images,))
    for _ in range(2):  # running statistics move twice
        assert_close(step(fused, batch, labels), step(reference, batch, labels), tolerance)
    reference.eval()
    fused.eval()
    assert_close(step(fused, batch, labels), step(reference, batch, labels), tolerance)
    with torch.no_grad():
        assert_close({"": fused(batch)}, {"": reference(batch)}, tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_bfloat16_fused_is_as_near_to_the_truth_as_reference(name):
    assert_as_near_to_the_truth(name)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_evaluation_by_images_and_by_rows_equals_the_modules(images, threads):
    """The rows of one image need several strips; threads without an image of their own share rows."""
    reference, fused = pair({"growth_rate": 40, "depth": 10, "block_config": [2, 1]})
    batch = torch.randn(images, 3, 23, 64, dtype=torch.float64)
    with threads_of(threads), torch.no_grad():
        assert_close({"": fused.eval()(batch)}, {"": reference.eval()(batch)}, 1e-11)


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("name", ["BC, k=40", "BC, k=5, odd sizes", "plain", "C, one layer a block"])
def test_evaluation_of_few_pixels_by_output_channels_equals_the_modules(name, threads):
    options, (images, height, width) = NETWORKS[name]
    reference, fused = pair(options)
    for count in (1, images):
        batch = torch.randn(count, 3, height, width, dtype=torch.float64)
        with torch.no_grad():
            expected = reference.eval()(batch)
            with threads_of(threads):
                assert_close({"": fused.eval()(batch)}, {"": expected}, 1e-11)
            with threads_of(1):
                assert_close({"": fused.eval()(batch)}, {"": expected}, 1e-11)


@pytest.mark.parametrize("size", [(64, 64), (97, 33), (35, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_of_the_stem_for_imagenet_equals_the_modules(channels, size):
    options, _ = NETWORKS["imagenet stem"]
    reference, fused = pair({**options, "in_channels": channels})
    batch = torch.randn(3, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        assert_close({"": fused.eval()(batch)}, {"": reference.eval()(batch)}, 1e-11)


def test_in_bfloat16_evaluation_is_as_near_to_the_truth_as_that_of_the_modules():
    reference, fused = pair(NETWORKS["imagenet stem"][0], torch.float32)
    batch = torch.randn(8, 3, 57, 63)
    step(reference.train(), batch, torch.arange(8))  # running statistics that fit the maps
    fused.load_state_dict(reference.state_dict())
    with torch.no_grad():
        truth = copy.deepcopy(reference).eval().double()(batch.double())
        with torch.autocast("cpu", torch.bfloat16):
            found, expected = fused.eval()(batch), reference.eval()(batch)
    assert 0 < relative(found, truth) <= 1.1 * relative(expected, truth)


def test_two_threads_share_the_images_and_leave_the_same_bits_each_time():
    reference, fused = pair({"growth_rate": 12, "depth": 16})
    batch, labels = torch.randn(11, 3, 16, 12, dtype=torch.float64), torch.randint(10, (11,))
    again = copy.deepcopy(fused)
    with threads_of(2):
        once, twice = step(fused, batch, labels), step(again, batch, labels)
        assert all(torch.equal(once[name], twice[name]) for name in once)
        assert_close(once, step(reference, batch, labels), 1e-11)
        with torch.no_grad():
            assert_close({"": fused.eval()(batch)}, {"": reference.eval()(batch)}, 1e-11)


@pytest.mark.parametrize(
    "limits", [{"OMP_THREAD_LIMIT": "1"}, pytest.param({"OMP_DYNAMIC": "true"}, marks=pytest.mark.slow)]
)
def test_fewer_threads_than_asked_for_leave_nothing_undone(limits):
    tests = f"{__file__}::test_two_threads_share_the_images_and_leave_the_same_bits_each_time"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    subprocess.run(words, env={**os.environ, **limits}, check=True, timeout=100)


def test_no_images_and_a_nan_are_what_they_are_for_the_modules():
    options, (_, height, width) = NETWORKS["imagenet stem"]
    reference, fused = pair(options)
    with torch.no_grad():
        assert fused.eval()(torch.empty(0, 3, height, width, dtype=torch.float64)).shape == (0, 10)
        batch = torch.randn(2, 3, height, width, dtype=torch.float64)
        batch[1, 0, 5, 5] = torch.nan
        found, expected = fused(batch), reference.eval()(batch)
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()
    assert not found.isnan().all()


def test_gradients_are_those_of_finite_differences():
    network = fuse(DenseNet(3, 2, 10, init_channels=3).double())
    batch = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    parameters = dict(network.named_parameters())
    some = [name for name in parameters if "denselayer1" in name or "transition1" in name]

    def logits(images, *changed):
        return torch.func.functional_call(network, dict(zip(some, changed, strict=True)), (images,))

    with torch.random.fork_rng():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.bias, 0.5, 1.0)  # so that ReLUs are far from zero
    assert torch.autograd.gradcheck(logits, (batch, *(parameters[name] for name in some)))


def test_dropout_drops_and_scales_and_its_gradient_is_that_of_the_same_mask():
    network = fuse(DenseNet(3, 4, 10, dropout=0.3).double())
    batch = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)

    def logits(images):
        torch.manual_seed(7)  # the same masks each time
        return network(images)

    assert torch.equal(logits(batch), logits(batch))
    torch.manual_seed(8)
    assert not torch.equal(network(batch), logits(batch))
    assert torch.autograd.gradcheck(logits, (batch,))


def test_dropout_is_of_the_distribution_of_torch():
    layer = fuse(DenseNet(3, 8, 10, block_config=[1], dropout=0.25, **PLAIN)).eval()
    images = torch.randn(200, 3, 8, 8)
    undropped = layer(images)
    layer.train()
    layer.features.norm5.momentum = 1.0  # so that it holds the statistics of the dropped maps
    layer(images)
    fused = layer.features.norm5.running_mean.clone(), layer.features.norm5.running_var.clone()
    unfuse(layer)
    layer(images)
    mean, variance = layer.features.norm5.running_mean, layer.features.norm5.running_var
    assert undropped.isfinite().all()
    torch.testing.assert_close(fused[0][16:], mean[16:], rtol=0.05, atol=0.02)
    torch.testing.assert_close(fused[1][16:], variance[16:], rtol=0.05, atol=0.0)


def by_kernels(network, images):
    """Whether the kernels compute this network's answer to images."""
    with torch.no_grad():
        return fusion._logits(copy.deepcopy(network), images) is not None


def test_a_network_that_someone_looks_into_is_computed_by_its_modules():
    _, network = pair({"growth_rate": 4, "depth": 10}, torch.float32)
    images = torch.randn(2, 3, 8, 8)
    assert by_kernels(network, images)
    seen = []
    handle = network.features.denseblock2.register_forward_hook(lambda *_: seen.append(1))
    network(images)
    handle.remove()
    network(images)
    assert seen == [1]
    handle = nn.modules.module.register_module_forward_hook(lambda *_: seen.append(2))
    network(images)
    handle.remove()
    network(images)
    assert seen.count(2) >= len(list(network.modules()))  # dropout has turns of its own
    network.features.norm5.eval()
    assert not by_kernels(network, images)
    network.train()
    assert not by_kernels(network, images.half())
    network.features.norm5 = nn.Identity()
    assert not by_kernels(network, images)


def test_operations_are_counted_as_those_of_the_modules():
    counts = []
    for network in pair({"growth_rate": 4, "depth": 10}, torch.float32):
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(2, 3, 8, 8))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_a_second_backward_pass_must_be_asked_for():
    _, network = pair({"growth_rate": 4, "depth": 10})
    loss = network(torch.randn(2, 3, 8, 8, dtype=torch.float64)).sum()
    loss.backward(retain_graph=True)
    once = network.features.conv0.weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(network.features.conv0.weight.grad, 2 * once)
    with pytest.raises(RuntimeError, match="retain_graph"):
        loss.backward()


def test_nothing_is_kept_without_gradients(monkeypatch):
    kept = []
    monkeypatch.setattr(trunk._Pass, "forward", lambda passed, stem: kept.append(passed.keep))
    _, network = pair({"growth_rate": 4, "depth": 10})
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode(), contextlib.suppress(TypeError):  # the classifier gets nothing
            network(images)
    assert kept == [True, False, False]


def test_one_value_a_channel_is_refused_in_training_as_by_batch_norm():
    for network in pair({"growth_rate": 4, "depth": 10}):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network(torch.randn(1, 3, 4, 4, dtype=torch.float64))
        network.eval()(torch.randn(1, 3, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_auto_is_the_reference_and_fused_an_error(
    compiler, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("DENSENET_KERNELS", str(tmp_path))
    compilation.load.cache_clear()
    selection.engine_or_reason.cache_clear()
    try:
        network = DenseNet(10, 4, 10)
        attach(network, "auto", "cpu")
        assert not is_fused(network)
        assert compiler in caplog.text
        with pytest.raises(OptionError, match=compiler):
            attach(network, "fused", "cpu")
        assert caplog.text.count("compiling the kernels") == (compiler == "false")  # tried once
    finally:
        compilation.load.cache_clear()
        selection.engine_or_reason.cache_clear()
