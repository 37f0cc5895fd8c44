"""The results of bench_networks.py as tables. Ratios above 1 mean that our fused DenseNet is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from side_by_side import ratio

from densenet_cli.results.table import Table
from densenet_cli.units import count, memory

Result = dict[str, Any]
NOTHING = "–"
FUSED, AS_IT_COMES = "fused", "torchvision-plain"


def title(network: Result) -> str:
    """The network, its images, and the load on the machine."""
    size, batch = network["image_size"], network["batch"]
    load = ", ".join(f"{load:.1f}" for load in network["load_average"])
    return f"{network['title']}, {size} × {size} pixels, batch {batch} (load average {load})"


def of_network(network: Result) -> Table:
    """All contestants on one network."""
    results = network["contestants"]
    base = _base(results)
    headings = [
        "contestant",
        "format",
        "step",
        "quartiles",
        f"÷ {base}",
        "share of roofline",
        "switches",
    ]
    headings += ["process", "activations", "evaluation", f"{base} ÷"]
    rows = [
        _cells(network, name, base)
        for name, one in results.items()
        if "train" in one or "evaluate" in one
    ]
    notes = [f"{name}: absent. {one['absent']}" for name, one in results.items() if "absent" in one]
    for name, one in results.items():
        if "compile_s" in one:
            notes.append(f"{name}: {one['compile_s']:.0f} s of compiling before its first step.")
    return Table(headings, [False, False] + [True] * 9, rows, notes + _least_notes(network))


def _cells(network: Result, name: str, base: str) -> list[str]:
    one, other = (network["contestants"][key] for key in (name, base))
    cells = [name, "bf16" if one["bfloat16"] else "float32", _step(one)]
    if "train" in one:
        train = one["train"]
        cells += ["–".join(f"{edge:.3f}" for edge in train["quartiles"]), _times(one, other, "train")]
        cells += [_share(network, name), str(train["switches"]), memory(one["process"])]
    else:  # a runtime that only evaluates
        cells += [NOTHING] * 5
    return [
        *cells,
        _activations(one),
        _images_per_second(network, name),
        _times(one, other, "evaluate"),
    ]


def _least_notes(network: Result) -> list[str]:
    """The roofline in words."""
    return [
        f"Least time of a step in {name}: {1e3 * least['seconds']:.0f} ms "
        f"(arithmetic {1e3 * least['arithmetic']:.0f}, traffic {1e3 * least['traffic']:.0f} at "
        f"{least['bandwidth'] / 1e9:.0f} GB/s)."
        for name, least in network.get("least", {}).items()
    ]


def of_summary(found: Result, networks: Sequence[Result]) -> Table:
    """One row per network: the fused DenseNet, the best of the others, torchvision as it comes."""
    headings = ["network", "batch", "fused", "best other", "ratio", "as it comes", "ratio"]
    headings += ["activations", "memory_efficient", "ratio", "share of roofline", "evaluation", "ratio"]
    notes = [
        f"{found['machine']}, torch {found['versions']['torch']}, {found['date'][:10]}: "
        f"{_rates(found['rates'])}.",
        "Steps and ratios are medians over rounds in which the contestants took turns. As it comes: "
        "torchvision (for plain DenseNets our modules) in float32 and the default memory format. "
        "memory_efficient: its mode that needs less memory.",
    ]
    rows = [_summary_cells(network) for network in networks if FUSED in network["contestants"]]
    return Table(headings, [False] + [True] * 12, rows, notes)


def _rates(rates: dict[str, float]) -> str:
    formats = [name for name in rates if name != "bandwidth"]
    products = ", ".join(f"{rates[name] / 1e9:.0f} GFLOP/s in {name}" for name in formats)
    return f"matrix products {products}; memory {rates['bandwidth'] / 1e9:.0f} GB/s"


def _summary_cells(network: Result) -> list[str]:
    results = network["contestants"]
    fused, plain = results[FUSED], results.get(AS_IT_COMES) or results.get("reference-plain", {})
    others = [name for name in results if not name.startswith(FUSED)]
    best = _least(results, others, lambda one: one["train"]["seconds"])
    lean = _least(results, [n for n in others if "efficient" in n], lambda one: one["activations"])
    evaluator = _least(results, others, lambda one: one["evaluate"]["seconds"])
    return [
        *(network["title"], str(network["batch"]), _step(fused)),
        *(f"{_step(results.get(best, {}))} ({best})", _times(results.get(best, {}), fused, "train")),
        *(_step(plain), _times(plain, fused, "train")),
        *(_activations(fused), _activations(results.get(lean, {}))),
        _quotient(results.get(lean, {}), fused),
        _share(network, FUSED),
        _images_per_second(network, FUSED),
        _times(results.get(evaluator, {}), fused, "evaluate"),
    ]


def of_growth(networks: Sequence[Result]) -> Table:
    """One row per depth: time and activations of each contestant."""
    names = list(dict.fromkeys(name for network in networks for name in network["contestants"]))
    headings = ["network", "batch"]
    headings += [heading for name in names for heading in (f"{name}, step", "activations")]
    rows = []
    for network in networks:
        results = [network["contestants"].get(name, {}) for name in names]
        cells = [cell for one in results for cell in (_step(one), _activations(one))]
        rows.append([network["title"], str(network["batch"]), *cells])
    return Table(headings, [False] + [True] * (1 + 2 * len(names)), rows, [])


def _base(results: Result) -> str:
    """The contestant that others are compared with: fused, or the first one if it is absent."""
    return next((name for name in (FUSED, *results) if "train" in results.get(name, {})), FUSED)


def _least(results: Result, names: Sequence[str], key: Callable[[Result], float]) -> str:
    """The name with the smallest key; NOTHING if none has a key."""
    known = {}
    for name in names:
        with suppress(KeyError):
            known[name] = key(results[name])
    known = {name: value for name, value in known.items() if value is not None}
    return min(known, key=known.__getitem__, default=NOTHING)


def _step(one: Result) -> str:
    return _seconds(one["train"]["seconds"]) if "train" in one else NOTHING


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s"


def _times(one: Result, other: Result, kind: str) -> str:
    """How many times as long one took as the other."""
    return f"{ratio(one[kind], other[kind]):.2f}" if kind in one and kind in other else NOTHING


def _activations(one: Result) -> str:
    known = one.get("activations")
    return NOTHING if known is None else memory(known)


def _quotient(one: Result, other: Result) -> str:
    """The ratio of activations."""
    known = [each.get("activations") for each in (one, other)]
    return NOTHING if None in known else f"{known[0] / known[1]:.2f}"


def _share(network: Result, name: str) -> str:
    """The least time of a step in the contestant's number format, as a share of its time."""
    one = network["contestants"][name]
    if "least" not in network or "train" not in one:
        return NOTHING
    least = network["least"]["bfloat16" if one["bfloat16"] else "float32"]
    return f"{100 * least['seconds'] / one['train']['seconds']:.0f} %"


def _images_per_second(network: Result, name: str) -> str:
    one = network["contestants"][name]
    if "evaluate" not in one:
        return NOTHING
    return count(network["evaluation_batch"] / one["evaluate"]["seconds"]) + " images/s"
