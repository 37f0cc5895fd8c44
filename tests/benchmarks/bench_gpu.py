"""Checks the fused DenseNet on this machine's GPU, and measures it beside other implementations.

Run by `python tests/benchmarks/bench_gpu.py`; it needs a CUDA device. The exit status is 1 without
one, or if the rounding errors of the fused network, compared with float64, are much larger than those
of the modules in the same number format.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from contestants import CONTESTANTS, Contestant
from networks import NETWORKS, Network, cifar_densenet
from torch import Tensor
from training_step import Trainee

from densenet_cli.figures.terminal import console
from densenet_cli.options import UserError
from densenet_cli.results.formats import as_rich
from densenet_cli.results.table import Table
from densenet_cli.training.graph_recording import WARM_UP
from densenet_cli.units import memory

SLACK = 4.0  # largest ratio of rounding errors, fused network to reference
ROUNDING = 1e-5  # relative error that is never too large: sums in another order
CHECKED = (
    cifar_densenet("small-bc", 8, growth_rate=12, depth=40),
    cifar_densenet("small", 8, growth_rate=12, depth=22, bottleneck=False, compression=1.0),
    replace(NETWORKS["densenet-121"], batch=4, evaluation_batch=4, image_size=70),  # odd sizes
)
TIMED = (
    replace(NETWORKS["densenet-bc-100-12"], batch=64),
    replace(NETWORKS["densenet-40-12"], batch=64),
    replace(NETWORKS["densenet-bc-190-40"], batch=64),
    replace(NETWORKS["densenet-121"], batch=64),
)
CONTESTING = ("fused", "reference", "torchvision", "torchvision-plain", "torchvision-efficient", "timm")
ROUNDS, STEPS = 5, 5  # measurements of each contestant, and steps in one of them


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--skip-compile", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("bench_gpu needs a GPU: torch finds no CUDA device here, so nothing was checked")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    right = [is_right(network, "cuda") for network in CHECKED]
    for network in TIMED:
        terminal = console()
        terminal.print(f"{network.title}, batch {network.batch}", style="bold")
        terminal.print(as_rich(timings(network, options.skip_compile), terminal))
    sys.exit(not all(right))


def is_right(network: Network, device: str) -> bool:
    """Compare fused network and reference, in float32 and in the device's best format, with float64.

    Prints the largest relative errors (of norms, over all tensors of a kind) of both.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    exact = outcomes(CONTESTANTS["reference-plain"], network, device, torch.float64)
    all_right = True
    for names in (("fused-float32", "reference-plain"), ("fused", "reference")):
        fused, reference = (
            errors(outcomes(CONTESTANTS[name], network, device, torch.float32), exact) for name in names
        )
        for kind, error in fused.items():
            is_near = error <= max(ROUNDING, SLACK * reference[kind])  # and not NaN
            all_right &= is_near
            verdict = "" if is_near else "  WRONG"
            figures = f"{error:.1e}, {names[1]} {reference[kind]:.1e}"
            print(f"{network.title}: {kind}: relative error of {names[0]} {figures}{verdict}")
    return all_right


def outcomes(
    contestant: Contestant, network: Network, device: str, dtype: torch.dtype
) -> dict[str, dict[str, Tensor]]:
    """Results of a training pass and an evaluation after it, by kind and name, as float64."""
    trainee = Trainee(contestant, network, device)
    trainee.module.to(dtype)
    trainee.images = trainee.images.to(dtype)
    trainee.evaluation_images = trainee.evaluation_images.to(dtype)
    loss = trainee.forward_and_backward()
    module = trainee.module
    kinds = {
        "loss": {"loss": loss},
        "gradients": {name: parameter.grad for name, parameter in module.named_parameters()},
        "running statistics": dict(module.named_buffers()),
        "logits in evaluation": {"logits": trainee.evaluate()},
    }
    return {
        kind: {name: tensor.double() for name, tensor in tensors.items()}
        for kind, tensors in kinds.items()
    }


def errors(
    found: dict[str, dict[str, Tensor]], exact: dict[str, dict[str, Tensor]]
) -> dict[str, float]:
    """By kind, the largest relative error of any tensor, in norms.

    The norm of a tensor counts as at least a hundredth of the largest norm of its kind: many gradients
    of shifts are sums that cancel out almost completely.
    """
    largest = {}
    for kind, tensors in exact.items():
        least = max(true.norm() for true in tensors.values()) / 100
        off = [
            (found[kind][name] - true).norm() / true.norm().clamp(min=least)
            for name, true in tensors.items()
        ]
        largest[kind] = torch.stack(off).max().item()  # NaN if one is
    return largest


def timings(network: Network, skip_compile: bool) -> Table:
    """Seconds and memory of a training step of all contestants, each also with CUDA graphs."""
    named = [CONTESTANTS[name] for name in CONTESTING if name in network.contestants]
    chosen = [one for contestant in named for one in (contestant, contestant.replay())]
    if not skip_compile:
        chosen.append(CONTESTANTS["torchvision"].compile())
    trainees, notes = {}, []
    for contestant in chosen:
        try:
            trainees[contestant.name] = _warm(Trainee(contestant, network, "cuda"))
        except (UserError, RuntimeError, ImportError) as error:
            notes.append(f"{contestant.name}: absent. {str(error).partition(chr(10))[0]}")
    seconds: dict[str, list[float]] = {name: [] for name in trainees}
    for number in range(ROUNDS):
        for name in random.Random(number).sample(list(trainees), len(trainees)):
            seconds[name].append(_seconds(trainees[name].step))
    rows = []
    for name, taken in seconds.items():
        step = f"{1e3 * statistics.median(taken):.1f} ms"
        times = _times(taken, seconds.get("fused-replayed"))
        held = "" if trainees[name].contestant.replayed else memory(_step_memory(trainees[name]))
        rows.append([name, step, times, held])
    return Table(
        ["contestant", "step", "÷ fused-replayed", "memory"], [False, True, True, True], rows, notes
    )


def _warm(trainee: Trainee) -> Trainee:
    for _ in range(WARM_UP + 2):
        trainee.step()
    if trainee.contestant.replayed and not trainee.network.is_possible:
        raise RuntimeError("cannot be recorded")
    return trainee


def _seconds(step: Callable[[], Tensor]) -> float:
    """Seconds of a step, by the clock of the device."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(STEPS):
        step()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3 / STEPS


def _times(taken: list[float], fused: list[float] | None) -> str:
    """The median over rounds of the ratio to fused."""
    return f"{statistics.median(map(lambda a, b: a / b, taken, fused)):.2f}" if fused else "–"


def _step_memory(trainee: Trainee) -> int:
    """Bytes that a step needs at its peak beyond weights and momentum."""
    resting = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    trainee.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - resting


if __name__ == "__main__":
    main()
