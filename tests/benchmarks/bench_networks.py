"""How fast networks train and evaluate here, and in how much memory, beside their rivals.

Run by `python tests/benchmarks/bench_networks.py`; --help lists the options. Every contestant works in
a process of its own; they take turns, in an order that changes from round to round. Prints medians and
the medians of ratios, and how much of the time the machine's own rates would allow.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS
from networks import NETWORKS, Network
from result_tables import of_growth, of_network, of_summary, title
from roofline import Machine, footprint, least_step
from side_by_side import Lost, Worker, alternate, summary
from training_step import Trainee

from densenet_cli.figures.terminal import console
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.process import ranks
from densenet_cli.record.run_record import now, versions
from densenet_cli.results.formats import as_markdown, as_rich
from densenet_cli.training import devices

LOSS_TOLERANCE = 0.02  # relative: bfloat16 rounds to 1/256


def main() -> None:
    """Measure, or read what was measured, and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of closing all workers
    ranks.spin_briefly()  # all contestants, as in densenet-run
    options = _options()
    if options.read:
        found = json.loads(options.read.read_text("utf-8"))
    else:
        with tempfile.TemporaryDirectory() as cache:
            # What an earlier run compiled must not be at hand.
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
        terminal.print(f"[bold]{title(network)}")
        terminal.print(as_rich(of_network(network), terminal))
    for table in tables:
        terminal.print(as_rich(table, terminal))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, metavar="NAME", help=" ".join(NETWORKS)
    )
    parser.add_argument(
        *("--contestants", "-c"),
        nargs="+",
        choices=CONTESTANTS,
        metavar="NAME",
        help=" ".join(CONTESTANTS),
    )
    parser.add_argument("--rounds", type=_rounds, help="turns of each contestant (default: 7)")
    parser.add_argument("--quick", action="store_true", help="an eighth of the images, 2 rounds: a try")
    parser.add_argument("--skip-compile", action="store_true", help="without torch.compile")
    parser.add_argument(
        "--compile-limit", type=float, default=300, metavar="S", help="seconds torch.compile may take"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--read", type=Path, metavar="FILE", help="print such a file; measure nothing")
    parser.add_argument("--markdown", action="store_true", help="the tables of the README")
    return parser.parse_args()


def _rounds(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is no whole number, 1 or more; for example 7")
    return int(word)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All results, as --json writes them; the file is written anew after each network."""
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
            found["networks"][name] = _measure_network(network, options)
            if network.is_densenet:
                found["networks"][name]["least"] = _least(network, machine, found["rates"])
            if options.json:
                replace_file(options.json, json.dumps(found, indent=1) + "\n")
    finally:
        machine.close()
    return found


def _formats() -> tuple[str, ...]:
    """The number formats that contestants compute with here."""
    gains = devices.precision("auto", "cpu") == "bf16-mixed"
    return ("float32", "bfloat16") if gains else ("float32",)  # else a product can take minutes


def _rates(machine: Worker) -> dict[str, float]:
    products = {name: machine.ask("matrix_rate", name == "bfloat16") for name in _formats()}
    return {**products, "bandwidth": machine.ask("bandwidth")}


def _least(network: Network, machine: Worker, rates: dict[str, float]) -> dict[str, Any]:
    """The least step by number format, with the bandwidth of as much memory as a block takes."""
    least = {}
    for name in _formats():
        is_bfloat16 = name == "bfloat16"
        bandwidth = machine.ask("bandwidth", footprint(network, is_bfloat16))
        bound = least_step(network, is_bfloat16, rates[name], bandwidth)
        least[name] = {**bound, "bandwidth": bandwidth}
    return least


def _measure_network(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    """Batch, parameters, load, and what each contestant did or why it is absent."""
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
    """Not those that evaluate as another one does, nor a second time of compiling."""
    return "efficient" not in name and not name.endswith("compiled")


def _warm_up(workers: dict[str, Worker], results: dict[str, dict[str, Any]]) -> None:
    """Wait for all, then let each take its first steps alone; those that fail leave `workers`."""
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
    """Let torch.compile's version of the fastest rival take part, if it compiles in time."""
    rivals = [name for name in workers if not name.startswith("fused")]
    if not network.evaluation_batch or not rivals:
        return
    best = min(rivals, key=lambda name: results[name]["seconds"])
    compiled = CONTESTANTS[best].compile()
    name = compiled.name
    results[name] = {"bfloat16": compiled.is_bfloat16()}
    workers[name] = Worker(Trainee, compiled, network)
    with _absent_if_lost(name, workers, results):
        workers[name].wait_until_ready()
        results[name]["compile_s"] = workers[name].ask("compile", patience_s=limit_s)
        results[name] |= workers[name].ask("warm_up")


def _take_turns(
    workers: dict[str, Worker],
    results: dict[str, dict[str, Any]],
    kind: str,
    method: str,
    rounds: int,
) -> None:
    """Measure all workers by turns; results[name][kind] is the `summary` of one."""
    answers, lost = alternate(workers, method, rounds)
    for name, turns in answers.items():
        results[name][kind] = summary(turns)
    for name, reason in lost.items():
        results[name]["absent"] = reason


@contextmanager
def _absent_if_lost(
    name: str, workers: dict[str, Worker], results: dict[str, dict[str, Any]]
) -> Iterator[None]:
    """Whoever is lost here takes no further part, and the result says why."""
    try:
        yield
    except Lost as reason:
        results[name]["absent"] = str(reason)
        del workers[name]


if __name__ == "__main__":
    main()
