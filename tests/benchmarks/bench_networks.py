"""How fast networks train and evaluate here, and in how much memory, beside other implementations.

Run by `python tests/benchmarks/bench_networks.py`; --help lists the options. Every contestant works in
a process of its own; they take turns, in an order that changes from round to round. Prints medians and
the medians of ratios, and how much of the time the machine's own rates would allow.

Figures measured so far. A training step, the memory that it keeps (activations), and how many times as
long others take. Best other: PyTorch in channels_last and the number format of ours, by our modules,
torchvision's or timm's. As it comes: torchvision's network (of the plain DenseNet (40, 12), which it
lacks, our modules) in float32. Efficient: the leaner mode of torchvision's memory_efficient=True.

Two cores with AMX, bfloat16, torch 2.14, four turns (--rounds 4 --skip-compile):

    network, batch                     ours    best other     as it comes    activations  efficient
    DenseNet-BC (100, 12), 64          0.42 s  1.37 s (3.3x)  2.59 s (6.3x)  249 MB       739 MB
    DenseNet-121 at 224 pixels, 16     0.59 s  1.38 s (2.4x)  3.08 s (5.3x)  244 MB       832 MB
    DenseNet-BC (190, 40), 8           0.95 s  2.30 s (2.4x)  4.66 s (4.9x)  142 MB       495 MB
    DenseNet (40, 12), 64              0.31 s  0.90 s (3.0x)  1.65 s (5.4x)  106 MB

Without AMX the products take most of the time. Two cores of an AMD Zen 5 (AVX512-BF16, bfloat16, two
turns, --contestants fused reference torchvision torchvision-plain, one network at a time) and of a
Zen 3 (AVX2, float32, three turns):

    DenseNet-BC (100, 12), 64   Zen 5  0.21 s  0.65 s (3.1x)  1.07 s (5.1x)  255 MB
                                Zen 3  1.16 s  2.00 s (1.9x)  2.53 s (2.1x)  489 MB       1.69 GB
    DenseNet-121, 224, 16       Zen 5  0.39 s  0.58 s (1.5x)  1.21 s (3.1x)  279 MB
                                Zen 3  2.43 s  3.13 s (1.2x)  3.54 s (1.4x)  549 MB       1.49 GB
    DenseNet-BC (190, 40), 8    Zen 5  0.61 s  0.93 s (1.5x)  2.08 s (3.4x)  143 MB

- Evaluation of DenseNet-121, 224 pixels, two cores with AMX, images/s, all in one process in turns,
  medians of two runs, on a machine with other work (--evaluation-batch 1 gives such rows here):

      batch  float32: ours  onnxruntime  OpenVINO  bfloat16: ours  OpenVINO
      1      34 to 40       34 to 36     37 to 39  95 to 104       103 to 108
      2      39             37           37        156             155
      16     44 to 46       30 to 32     30 to 33  218 to 228      140 to 158

  The best times of one image, ms: float32 24.6 to 25.8 (onnxruntime 27.0 to 28.1, OpenVINO 25.1 to
  26.1), bfloat16 9.2 to 11.2 (OpenVINO 8.5 to 9.3). Of these some 2 ms look whether a weight has
  changed and 1 ms whether a module has, which the others, whose networks are made for evaluation alone,
  need not do. In a loop without others the kernels themselves take 20.2 and 4.2 ms.
- torch.compile of the modules, DenseNet-BC (100, 12), AMX: 0.97 s, 3.0 times as long as ours in the
  same run, after 203 s of compiling (--networks densenet-bc-100-12 -c fused reference --rounds 5).
- Memory by depth, DenseNet-BC of k = 12, batch 16: 40 layers 27 MB, 100 layers 60 MB, 160 layers
  102 MB, 250 layers 153 MB, where the modules keep 1.9 GB.
- By the machine's rates for products and memory a step could take 37 to 66 % of its time with AMX, 61
  to 86 % on the Zen 5, 60 to 71 % on the Zen 3.
- A whole training with AMX, `densenet-run model=densenet_bc model.depth=22 model.growth_rate=12
  recipe=one_cycle epochs=5`: 5:05 min, 21.53 % test error; by the modules 13:17 min, 21.44 %.

One H200, bfloat16, torch 2.11, batch 64: milliseconds of a training step, and its memory beyond weights
and momentum (of the modules, ours, and the efficient mode), medians of five turns. Measured like
step_times.py does, with the fastest block sizes tried; triton/block_sizes.py keeps fewer. Steps that
are not replayed depend on the CPU: on another machine the first took 40 ms.

    network                modules  replayed     ours, replayed  torchvision  memory
    DenseNet-BC (100, 12)  65       13.0 (5.0x)  9.3 (7.0x)      59           1.15 GB, 200 MB, 427 MB
    DenseNet (40, 12)      41       8.6 (4.8x)   7.0 (5.9x)                   627 MB, 92 MB
    DenseNet-121, 224      87       26.5 (3.3x)  22.6 (3.8x)     90           4.29 GB, 937 MB, 2.12 GB
    DenseNet-BC (190, 40)  155      74 (2.1x)    78 (2.0x)                    11.3 GB, 1.27 GB
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS
from networks import NETWORKS, RUNTIMES, Network
from result_tables import of_growth, of_network, of_summary, title
from roofline import Machine, footprint, least_step
from runtimes import Runtime, is_installed
from side_by_side import Lost, Worker, alternate, summary
from training_step import Trainee

from densenet_cli.figures.terminal import console
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.process import ranks
from densenet_cli.record.environment import versions
from densenet_cli.record.run_record import now
from densenet_cli.results.formats import as_markdown, as_rich
from densenet_cli.training import devices

SUMMARY = (__doc__ or "").partition("Figures measured")[0]
LOSS_TOLERANCE = 0.02  # relative: bfloat16 rounds to 1/256


def main() -> None:
    """Measure, or read what was measured, and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which closes all workers
    ranks.spin_briefly()  # for all contestants, as in densenet-run
    options = _options()
    if options.read:
        found = json.loads(options.read.read_text("utf-8"))
    else:
        with tempfile.TemporaryDirectory() as cache:
            # What an earlier run compiled must not be found.
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
            found = measure(options)
    networks = found["networks"].values()
    depths = [network for network in networks if not network["evaluation_batch"]]
    others = [network for network in networks if network["evaluation_batch"]]
    tables = [of_summary(found, others), *([of_growth(depths)] if depths else [])]
    if options.markdown:
        print("\n".join(map(as_markdown, tables)))
        return
    terminal = console()
    for network in others:
        terminal.print(title(network), style="bold")
        terminal.print(as_rich(of_network(network), terminal))
    for table in tables:
        terminal.print(as_rich(table, terminal))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=SUMMARY, allow_abbrev=False)
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, metavar="NAME", help=" ".join(NETWORKS)
    )
    parser.add_argument(
        *("--contestants", "-c"),
        nargs="+",
        choices=[*CONTESTANTS, *RUNTIMES],
        metavar="NAME",
        help=" ".join([*CONTESTANTS, *RUNTIMES]) + "; the last ones evaluate only, where installed",
    )
    parser.add_argument("--rounds", type=_count, help="turns of each contestant (default: 7)")
    parser.add_argument(
        "--evaluation-batch", type=_count, metavar="N", help="images of an evaluation, for example 1"
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the images, 2 rounds: a try")
    parser.add_argument("--skip-compile", action="store_true", help="without torch.compile")
    parser.add_argument(
        "--compile-limit", type=float, default=300, metavar="S", help="seconds torch.compile may take"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument(
        "--read",
        type=Path,
        metavar="FILE",
        help="print the results in a file of --json; measure nothing",
    )
    parser.add_argument("--markdown", action="store_true", help="the tables of the README")
    return parser.parse_args()


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is no whole number, 1 or more; for example 7")
    return int(word)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All results, as --json writes them; the file is rewritten after each network."""
    found: dict[str, Any] = {
        "date": now(),
        "machine": devices.device_name("cpu"),
        "versions": versions(),
        "precision": devices.precision("auto", "cpu"),
        "load_average": os.getloadavg(),
        "networks": {},
    }
    quick_networks = ["densenet-bc-100-12", "depth-40"]
    names = options.networks or (quick_networks if options.quick else NETWORKS)
    machine = Worker(Machine)
    try:
        machine.wait_until_ready()
        found["rates"] = _rates(machine)
        for name in names:
            print(f"{NETWORKS[name].title} ...", file=sys.stderr)
            network = NETWORKS[name].smaller() if options.quick else NETWORKS[name]
            if options.evaluation_batch and network.evaluation_batch:
                network = replace(network, evaluation_batch=options.evaluation_batch)
            found["networks"][name] = _measure_network(network, options)
            if network.is_densenet:
                found["networks"][name]["least"] = _least(network, machine, found["rates"])
            if options.json:
                replace_file(options.json, json.dumps(found, indent=1) + "\n")
    finally:
        machine.close()
    return found


def _formats() -> tuple[str, ...]:
    """The number formats that contestants use here."""
    gains = devices.precision("auto", "cpu") == "bf16-mixed"
    return ("float32", "bfloat16") if gains else ("float32",)  # else a product can take minutes


def _rates(machine: Worker) -> dict[str, float]:
    products = {name: machine.ask("matrix_rate", name == "bfloat16") for name in _formats()}
    return {**products, "bandwidth": machine.ask("bandwidth")}


def _least(network: Network, machine: Worker, rates: dict[str, float]) -> dict[str, Any]:
    """The least time of a step by number format, with the bandwidth for a block's amount of memory."""
    least = {}
    for name in _formats():
        is_bfloat16 = name == "bfloat16"
        bandwidth = machine.ask("bandwidth", footprint(network, is_bfloat16))
        bound = least_step(network, is_bfloat16, rates[name], bandwidth)
        least[name] = {**bound, "bandwidth": bandwidth}
    return least


def _measure_network(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    """Batch, load, and each contestant's results, or why it is absent."""
    rounds = options.rounds or (2 if options.quick else 7)
    chosen = [CONTESTANTS[name] for name in network.contestants]
    chosen = [one for one in chosen if not options.contestants or one.name in options.contestants]
    results = {one.name: {"bfloat16": one.is_bfloat16()} for one in chosen}
    workers = {one.name: Worker(Trainee, one, network) for one in chosen}
    try:
        _warm_up(workers, results)
        if not (options.skip_compile or options.quick):
            _add_compiled(network, workers, results, options.compile_limit)
        _take_turns(workers, results, "train", "timed_step", rounds)
        if network.evaluation_batch:
            _add_runtimes(network, workers, results, options.contestants or RUNTIMES)
            evaluated = {name: workers[name] for name in workers if _evaluates(name)}
            _take_turns(evaluated, results, "evaluate", "timed_evaluation", rounds)
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "title": network.title,
        "image_size": network.image_size,
        "batch": network.batch,
        "evaluation_batch": network.evaluation_batch,
        "load_average": os.getloadavg(),
        "contestants": results,
    }


def _evaluates(name: str) -> bool:
    """Not those that evaluate like another one, nor those that would compile again."""
    return "efficient" not in name and not name.endswith("compiled")


def _warm_up(workers: dict[str, Worker], results: dict[str, dict[str, Any]]) -> None:
    """Wait for all, then let each take its first steps alone; remove those that fail from `workers`."""
    for name in list(workers):
        with _absent_if_lost(name, workers, results):
            workers[name].wait_until_ready()
    for name in list(workers):
        with _absent_if_lost(name, workers, results):
            results[name] |= workers[name].ask("warm_up")
    losses = {name: results[name]["first_loss"] for name in workers}
    expected = losses.get("reference", next(iter(losses.values()), 0.0))
    for name, loss in losses.items():
        with _absent_if_lost(name, workers, results):
            if abs(loss - expected) > LOSS_TOLERANCE * abs(expected):
                workers[name].close()
                raise Lost(f"its first loss is {loss:.4f} instead of {expected:.4f}")


def _add_compiled(
    network: Network,
    workers: dict[str, Worker],
    results: dict[str, dict[str, Any]],
    limit_s: float,
) -> None:
    """Add torch.compile of the fastest other contestant, if it compiles in time."""
    others = [name for name in workers if not name.startswith("fused")]
    if not network.evaluation_batch or not others:
        return
    best = min(others, key=lambda name: results[name]["seconds"])
    compiled = CONTESTANTS[best].compile()
    name = compiled.name
    results[name] = {"bfloat16": compiled.is_bfloat16()}
    workers[name] = Worker(Trainee, compiled, network)
    with _absent_if_lost(name, workers, results):
        workers[name].wait_until_ready()
        results[name]["compile_s"] = workers[name].ask("compile", patience_s=limit_s)
        results[name] |= workers[name].ask("warm_up")


def _add_runtimes(
    network: Network,
    workers: dict[str, Worker],
    results: dict[str, dict[str, Any]],
    chosen: Iterable[str],
) -> None:
    """Add the runtimes that are installed, which evaluate but do not train."""
    for name in filter(is_installed, RUNTIMES):
        if name in chosen:
            results[name] = {"bfloat16": False}
            workers[name] = Worker(Runtime, name, network)
            with _absent_if_lost(name, workers, results):
                workers[name].wait_until_ready()
                results[name]["bfloat16"] = workers[name].ask("is_bfloat16")


def _take_turns(
    workers: dict[str, Worker],
    results: dict[str, dict[str, Any]],
    kind: str,
    method: str,
    rounds: int,
) -> None:
    """Let the workers take turns; results[name][kind] is the `summary` of each."""
    answers, lost = alternate(workers, method, rounds)
    for name, turns in answers.items():
        results[name][kind] = summary(turns)
    for name, reason in lost.items():
        results[name]["absent"] = reason


@contextmanager
def _absent_if_lost(
    name: str, workers: dict[str, Worker], results: dict[str, dict[str, Any]]
) -> Iterator[None]:
    """If the worker is lost here, remove it and note why in the results."""
    try:
        yield
    except Lost as reason:
        results[name]["absent"] = str(reason)
        del workers[name]


if __name__ == "__main__":
    main()
