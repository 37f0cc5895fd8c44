"""The Triton kernels in Triton's interpreter, which needs no GPU.

The interpreter is chosen before Triton is imported and changes it for good, so it has a process of its
own. It is slow: few pixels, few layers. It cuts numbers off where a GPU rounds them to bfloat16.
"""

import copy
import importlib.util
import math
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version

import pytest
import torch
from packaging.version import Version
from torch import nn

from densenet_cli.kernels.engine import ConvolutionWork
from densenet_cli.kernels.libraries import parts_of
from densenet_cli.kernels.maps import REAL, BatchNorm, Maps, start_corrections
from densenet_cli.models.densenet import DenseNet

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no Triton for this machine"
)

BC = {"growth_rate": 5, "depth": 10, "block_config": [1, 1]}
PLAIN = {
    "growth_rate": 12,
    "depth": 10,
    "block_config": [1, 1],
    "bottleneck": False,
    "compression": 1.0,
}
STEM = {"growth_rate": 4, "depth": 121, "block_config": [1], "stem": "imagenet"}
BIG = {"growth_rate": 12, "depth": 10, "block_config": [3, 2]}


@pytest.fixture(scope="module")
def interpreter():
    """A function that calls another one in a process where Triton interprets its kernels."""
    if Version(version("triton")) < Version("3.8") and Version(version("numpy")) >= Version("2.5"):
        pytest.skip("this Triton's interpreter takes int() of an array, which this NumPy refuses")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare, ("1",)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=250)


def _prepare(interpret):
    assert "triton" not in sys.modules  # by the imports above
    os.environ["TRITON_INTERPRET"] = interpret
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN


def engine(programs=1024):
    """An engine that uses at most so many programs for the pixels; up to four form groups of two."""
    from densenet_cli.kernels.triton import block_sizes, launch
    from densenet_cli.kernels.triton import engine as maps_engine
    from densenet_cli.kernels.triton.engine import TritonEngine

    launch.PROGRAMS = programs
    launch.group = maps_engine.group = lambda programs: 2 if programs <= 4 else 32
    launch.blocks = lambda *what: block_sizes.blocks(*what)._replace(programs=programs)
    return TritonEngine()


def network(options, dtype, seed=0):
    """A DenseNet whose batch norms have random parameters."""
    torch.manual_seed(seed)
    made = DenseNet(3, **options).to(dtype)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made


def through_modules(made, stem):
    """The classifier's input, computed by the modules."""
    return torch.relu(made.features[1:](stem)).mean(dim=(2, 3))


def step(made, stem, compute):
    """The results of a step: output, gradients, buffers."""
    made.zero_grad()
    stem = stem.clone().requires_grad_()
    means = compute(stem)
    (means * torch.linspace(-1, 1, means.numel()).view_as(means)).sum().backward()
    left = {"means": means.detach(), "stem": stem.grad} | {
        n: b.clone() for n, b in made.named_buffers()
    }
    return left | {n: p.grad for n, p in made.named_parameters() if p.grad is not None}


def worst_difference(options, size, programs, dtype, training):
    """The largest difference from the modules in any tensor, relative to its largest number."""
    images, height, width = size
    made = network(options, dtype).train(training)
    same = copy.deepcopy(made)
    stem = torch.randn(images, made.features.conv0.out_channels, height, width, dtype=dtype)
    expected = step(made, stem, lambda x: through_modules(made, x))
    found = step(same, stem, lambda x: parts_of(same).trunk(x, engine(programs), training))
    assert expected.keys() == found.keys()
    return max(
        ((found[name] - true).abs().max() / true.abs().max().clamp(min=1e-3)).item()
        for name, true in expected.items()
    )


@pytest.mark.parametrize(
    ("options", "size", "programs", "dtype", "training", "tolerance"),
    [
        pytest.param(BC, (3, 9, 7), 1024, torch.float64, True, 1e-12, id="BC, odd sizes"),
        pytest.param(BC, (1, 8, 9), 1024, torch.float32, False, 2e-5, id="evaluation"),
        pytest.param(PLAIN, (1, 16, 17), 4, torch.float32, True, 2e-5, id="plain, few programs"),
        pytest.param(STEM, (2, 9, 12), 1, torch.float64, True, 1e-12, id="imagenet stem"),
        pytest.param(BIG, (2, 17, 16), 4, torch.float32, True, 2e-5, id="big", marks=pytest.mark.slow),
    ],
)
def test_the_trunk_equals_the_modules(interpreter, options, size, programs, dtype, training, tolerance):
    assert interpreter(worst_difference, options, size, programs, dtype, training) < tolerance


def with_nan():
    """Means of two images in evaluation, one of which has a NaN, by the kernels and the modules."""
    made = network(BC, torch.float32).eval()
    stem = torch.randn(2, made.features.conv0.out_channels, 6, 5)
    stem[0, :, 2, 2] = torch.nan
    with torch.no_grad():
        return parts_of(made).trunk(stem, engine(), False).tolist(), through_modules(
            made, stem
        ).tolist()


def test_a_nan_stays_one_and_in_its_image(interpreter):
    found, expected = interpreter(with_nan)
    assert all(map(math.isnan, found[0] + expected[0]))
    assert found[1] == pytest.approx(expected[1], rel=1e-5)


def measured():
    """Mean and variance measured while maps with a large mean are copied, and the true ones."""
    torch.manual_seed(0)
    values = 1000 + torch.randn(3, 4, 13, 11)
    target = Maps(values, 3, 13, 11, 4, measured=True)
    engine(programs=4).start([torch.ones(1, 1, 1, 1)], values).copy(values, target)
    variance, mean = torch.var_mean(values.double(), (0, 2, 3), correction=0)
    return [tensor.tolist() for tensor in (target.mean, target.variance, mean, variance)]


def test_a_large_mean_costs_the_variance_no_digits(interpreter):
    mean, variance, true_mean, true_variance = interpreter(measured)
    assert mean == pytest.approx(true_mean, rel=1e-6)
    assert variance == pytest.approx(true_variance, rel=1e-4)


def convolution(dtype, size, dropout=0.0, draw=0):
    """Output (pixels, 12) of a convolution of 20 maps; the gradients of its input, weight, γ and β.

    All inputs are numbers of bfloat16.
    """
    torch.manual_seed(0)
    real, rounded = REAL[dtype], lambda *shape: torch.randn(shape).bfloat16()
    like = torch.empty(0, dtype=dtype)
    source, target = Maps(like, 2, 5, 6, 20, measured=False), Maps(like, 2, 5, 6, 33, measured=True)
    source.values[:, :20] = rounded(60, 20)
    module = nn.BatchNorm2d(20, eps=0.0).to(real)
    for numbers in (module.running_mean, module.running_var, module.weight, module.bias):
        numbers.data = rounded(20).abs().to(real)
    norm = BatchNorm.of(module)
    weight = rounded(12, 20, size, size).to(real)
    seed = torch.tensor(2**62 + 5) if dropout else None
    steps = [ConvolutionWork(source, norm, weight, target, 16, dropout, seed, draw)]
    started = engine().start([weight], like)
    started.convolve(steps)
    start_corrections([source, target])
    target.start_gradient()
    target.gradient[:, 16:28] = rounded(60, 12)
    for part in (target.slope, target.offset):
        part[16:28] = 0.1 * rounded(12).to(real)
    gradients = started.convolve_backward(steps)
    gradients = started.convolve_backward(steps)
    assert not started._memory._zeros._base.any()  # a recorded backward pass may be replayed
    return target.values[:, 16:28].double(), source.gradient[:, :20].double(), *gradients


def bfloat16_errors(size):
    """Relative errors of all results of a convolution, compared with float32."""
    found, expected = convolution(torch.bfloat16, size), convolution(torch.float32, size)
    pairs = zip(found, expected, strict=True)
    return [((tensor - true).norm() / true.norm()).item() for tensor, true in pairs]


@pytest.mark.parametrize("size", [1, 3])
def test_bfloat16_is_float32_but_for_rounding(interpreter, size):
    assert all(0 < error < 0.02 for error in interpreter(bfloat16_errors, size))


def dropped():
    """Outputs without dropout, with dropout, and with another mask."""
    cases = {}, {"dropout": 0.3, "draw": 1}, {"dropout": 0.3, "draw": 2}
    return [convolution(torch.float32, 1, **case)[0].flatten().tolist() for case in cases]


def test_dropout_drops_and_scales_by_seed_and_place(interpreter):
    whole, some, others = (torch.tensor(values) for values in interpreter(dropped))
    kept = some != 0
    torch.testing.assert_close(some, torch.where(kept, whole / 0.7, 0.0))
    deviation = 1 / len(kept) ** 0.5
    assert abs(kept.double().mean().item() - 0.7) < 4 * deviation * (0.3 * 0.7) ** 0.5
    same = 0.7**2 + 0.3**2
    assert abs(((others != 0) == kept).double().mean().item() - same) < 4 * deviation * 0.5


def twice():
    """Whether a second backward pass gives the same bits as the first."""
    made = network(BC | {"dropout": 0.3}, torch.float32)
    stem = torch.randn(1, made.features.conv0.out_channels, 8, 9, requires_grad=True)
    means = parts_of(made).trunk(stem, engine(programs=4), training=True)
    inputs = [stem, *made.features.denseblock1.parameters(), *made.features.norm5.parameters()]
    first, second = (
        torch.autograd.grad(means.sum(), inputs, retain_graph=retain) for retain in (True, False)
    )
    return all(map(torch.equal, first, second))


def test_a_second_backward_pass_gives_the_same_bits(interpreter):
    assert interpreter(twice)


def in_two_orders(options, programs):
    """Whether a step gives the same bits if the last program of each launch comes first."""
    from triton.runtime.interpreter import interpreter_builder as builder

    made = network(options, torch.float32)
    stem = torch.randn(1, made.features.conv0.out_channels, 16, 17)
    copied, place = copy.deepcopy(made), builder.set_grid_idx
    first = step(made, stem, lambda x: parts_of(made).trunk(x, engine(programs), training=True))
    backwards = []

    def from_the_end(*index):
        backwards.append(index)
        place(*(size - 1 - number for size, number in zip(builder.grid_dim, index, strict=True)))

    builder.set_grid_idx = from_the_end
    second = step(copied, stem, lambda x: parts_of(copied).trunk(x, engine(programs), training=True))
    builder.set_grid_idx = place
    return len(backwards), all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "programs"),
    [pytest.param(BC, 1024, id="BC"), pytest.param(PLAIN, 4, id="plain, few programs")],
)
def test_the_order_of_programs_changes_no_bit(interpreter, options, programs):
    programs, are_equal = interpreter(in_two_orders, options, programs)
    assert programs > 100
    assert are_equal


def slopes():
    """The slope of the trunk with dropout along a line: from differences, and from its gradient."""
    made = network(BC | {"dropout": 0.3}, torch.float64)
    stem = torch.randn(2, 10, 6, 5, dtype=torch.float64, requires_grad=True)
    inputs = [stem, *made.features.denseblock1.parameters(), *made.features.transition1.parameters()]
    ways = [torch.randn_like(tensor) for tensor in inputs]

    def at(distance):
        torch.manual_seed(7)  # the same masks each time
        with torch.no_grad():
            torch._foreach_add_(inputs, ways, alpha=distance)
        means = parts_of(made).trunk(stem, engine(), training=True)
        return (means * torch.linspace(-1, 1, means.numel()).view_as(means)).sum()

    with torch.no_grad():
        difference = (at(1e-6) - at(-2e-6)) / 2e-6
    gradients = torch.autograd.grad(at(1e-6), inputs)
    return difference.item(), sum(
        (g * way).sum() for g, way in zip(gradients, ways, strict=True)
    ).item()


def test_gradients_with_dropout_are_those_of_finite_differences(interpreter):
    by_differences, by_gradient = interpreter(slopes)
    assert by_gradient == pytest.approx(by_differences, rel=1e-5)
