"""How fast DenseNets of torchvision and timm compute: as they come, by torch.compile, and fused.

Run by `python tests/benchmarks/bench_libraries.py`; --help lists the options. Networks have the
libraries' own settings and the default memory format. Two kinds of work:

- forward: images to logits, with batch statistics and without gradients, 224 pixels, batch 10, of
  DenseNet-121 and DenseNet-201: problems 15 and 16 of KernelBench's level 3. (Its problems 13 and 14
  are a single transition and a single block; `fuse` takes whole networks.)
- training: forward, cross-entropy, backward and Adam, 128 pixels, batch 16, of DenseNet-121: as in
  PyTorch's tutorial on torch.compile.

Every contestant works in a process of its own. They take turns, in an order that changes from round
to round. Prints medians, medians of each round's ratio to `torchvision, fused`, and the seconds of
the first call, which for torch.compile include compiling.

Medians of seven rounds on two cores of a Xeon with AMX, torch 2.14, DenseNet-121; in brackets the
ratio to `torchvision, fused`, and the seconds that torch.compile took:

                          torchvision      torch.compile            torchvision, fused   timm, fused
    forward, float32      952 ms (2.15)     771 ms (1.77; 154 s)    484 ms               461 ms
    forward, bfloat16     905 ms (3.88)     656 ms (2.86; 180 s)    230 ms               209 ms
    training, float32   1,344 ms (2.08)   1,132 ms (1.61; 303 s)    652 ms               741 ms
    training, bfloat16    919 ms (3.43)     632 ms (2.54; 252 s)    261 ms               264 ms

DenseNet-201, on another Xeon with AMX, medians of three rounds:

    forward, float32      898 ms (2.30)     665 ms (1.72; 126 s)    390 ms               389 ms
    forward, bfloat16     469 ms (4.15)     355 ms (3.16; 129 s)    113 ms               133 ms
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from typing import Any

import torch
from side_by_side import Lost, Worker, alternate, ratio, summary, timed
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from densenet_cli.figures.terminal import console
from densenet_cli.kernels import fuse
from densenet_cli.models.timm_models import timm_model
from densenet_cli.process import ranks
from densenet_cli.results.formats import as_markdown, as_rich
from densenet_cli.results.table import Table
from densenet_cli.training import devices

EAGER, COMPILED, FUSED, TIMM = (
    "torchvision",
    "torchvision, torch.compile",
    "torchvision, fused",
    "timm, fused",
)
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}  # of the logits, in norms: rounding through 121 layers


@dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
        network: its name in both libraries.
        trains: a step with Adam; else a forward pass with batch statistics.
        image_size: height and width in pixels.
        batch: images.
        precision: float32, or bfloat16 by autocast.
        device: cpu or cuda.
    """

    network: str
    trains: bool
    image_size: int
    batch: int
    precision: str = "float32"
    device: str = "cpu"

    @property
    def title(self) -> str:
        """The work in words."""
        kind = "training step with Adam" if self.trains else "forward with batch statistics"
        size = f"{self.image_size} × {self.image_size} pixels, batch {self.batch}"
        return f"{self.network}, {kind}, {size}, {self.precision}"


WORKS = {
    "forward-121": Work("densenet121", trains=False, image_size=224, batch=10),
    "forward-201": Work("densenet201", trains=False, image_size=224, batch=10),
    "training-121": Work("densenet121", trains=True, image_size=128, batch=16),
}


class Contestant:
    """One way of computing a network, with a random batch; weights and batch are the same for all."""

    def __init__(self, name: str, work: Work) -> None:
        self.work = work
        torch.manual_seed(0)
        network = models.get_model(work.network)
        if name == TIMM:
            weights, network = network.state_dict(), timm_model(work.network, 1000)
            network.load_state_dict(weights)
        network.to(work.device).train()
        if name in (FUSED, TIMM):
            fuse(network)
        self.network: nn.Module = torch.compile(network) if name == COMPILED else network
        self.optimizer = torch.optim.Adam(network.parameters())
        torch.manual_seed(1)
        size = work.batch, 3, work.image_size, work.image_size
        self.images = torch.randn(size).to(work.device)
        self.labels = torch.randint(1000, (work.batch,)).to(work.device)

    def run(self) -> Tensor:
        """Do the work once; the logits."""
        with torch.set_grad_enabled(self.work.trains):
            with torch.autocast(
                self.work.device, torch.bfloat16, enabled=self.work.precision == "bfloat16"
            ):
                logits = self.network(self.images)
            if self.work.trains:
                self.optimizer.zero_grad()
                F.cross_entropy(logits.float(), self.labels).backward()
                self.optimizer.step()
        if self.work.device == "cuda":
            torch.cuda.synchronize()
        return logits.detach().float().cpu()

    def first_call(self) -> tuple[float, list[list[float]]]:
        """Seconds of the first time, and its logits; then once more, for memory to settle."""
        logits: list[Tensor] = []
        seconds = timed(lambda: logits.append(self.run()))["seconds"]
        self.run()
        return seconds, logits[0].tolist()

    def timed_run(self) -> dict[str, float]:
        """Seconds of the work; see `timed`."""
        return timed(self.run)


def main() -> None:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which closes all workers
    ranks.spin_briefly()  # for all contestants, as in densenet-run
    options = _options()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # what an earlier run compiled must not be found
        for work in _works(options):
            table = measure(work, options)
            if options.markdown:
                print(f"{work.title}\n\n{as_markdown(table)}")
            else:
                print(work.title)
                console().print(as_rich(table, console()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--works", nargs="+", choices=WORKS, metavar="NAME", help=" ".join(WORKS))
    parser.add_argument(
        *("--precisions", "-p"),
        nargs="+",
        choices=TOLERANCES,
        help="default: float32, and bfloat16 where the machine gains by it",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant (default: 7)")
    parser.add_argument("--skip-compile", action="store_true", help="without torch.compile")
    parser.add_argument(
        "--compile-limit", type=float, default=900, metavar="S", help="seconds torch.compile may take"
    )
    parser.add_argument(
        "--quick", action="store_true", help="2 images, 2 rounds, without torch.compile: a try"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser.parse_args()


def _works(options: argparse.Namespace) -> list[Work]:
    gains = devices.precision("auto", options.device) == "bf16-mixed"
    precisions = options.precisions or (["float32", "bfloat16"] if gains else ["float32"])
    return [
        replace(
            WORKS[name],
            precision=precision,
            device=options.device,
            **({"batch": 2} if options.quick else {}),
        )
        for name in options.works or WORKS
        for precision in precisions
    ]


def measure(work: Work, options: argparse.Namespace) -> Table:
    """Let the contestants take turns."""
    names = [EAGER, FUSED, TIMM]
    if not (options.skip_compile or options.quick):
        names.insert(1, COMPILED)
    workers = {name: Worker(Contestant, name, work) for name in names}
    first: dict[str, float] = {}
    notes: list[str] = []
    expected: Tensor | None = None
    try:
        for name in names:
            try:
                workers[name].wait_until_ready()
                seconds, found = workers[name].ask("first_call", patience_s=options.compile_limit)
                logits = torch.tensor(found)
                expected = logits if expected is None else expected
                _check(logits, expected, work)
                first[name] = seconds
            except Lost as reason:
                workers.pop(name).close()
                notes.append(f"{name}: absent. {reason}")
        turns, lost = alternate(workers, "timed_run", 2 if options.quick else options.rounds)
        notes += [f"{name}: absent. {reason}" for name, reason in lost.items()]
    finally:
        for worker in workers.values():
            worker.close()
    return _table({name: summary(own) for name, own in turns.items()}, first, notes)


def _check(logits: Tensor, expected: Tensor, work: Work) -> None:
    """Raise Lost if the logits are others than those of the first contestant."""
    error = ((logits - expected).norm() / expected.norm()).item()
    if not error <= TOLERANCES[work.precision]:
        raise Lost(f"its logits differ by {error:.2g}, relative to their norm")


def _table(found: dict[str, dict[str, Any]], first: dict[str, float], notes: list[str]) -> Table:
    rows = [
        [
            name,
            f"{1e3 * one['seconds']:.1f} ms",
            "–".join(f"{1e3 * edge:.1f}" for edge in one["quartiles"]),
            f"{ratio(one, found[FUSED]):.2f}" if FUSED in found else "–",
            f"{first[name]:.1f} s",
        ]
        for name, one in found.items()
    ]
    headings = ["contestant", "time", "quartiles", f"÷ {FUSED}", "first call"]
    return Table(headings, [False, True, True, True, True], rows, notes)


if __name__ == "__main__":
    main()
