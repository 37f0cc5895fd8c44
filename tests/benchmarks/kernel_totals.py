"""Where the time of a recorded step of the fused DenseNet goes: each kernel's total, and the host."""

from __future__ import annotations

from dataclasses import replace

from checklist_part import Result, Setting
from contestants import CONTESTANTS
from networks import NETWORKS, TINY, Network
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from training_step import Trainee

PROBED = ("densenet-bc-100-12", "densenet-40-12")
STEPS = 5  # that are profiled
SHOWN = 3  # kernels in the line


def measure(setting: Setting) -> bool:
    """Probe the networks."""
    networks = [replace(NETWORKS[name], batch=64, evaluation_batch=0) for name in PROBED]
    found: Result = {}
    for network in [TINY] if setting.small else networks:
        found[network.title] = probed(network, setting.device)
        setting.keep("kernels", found)
    return True


def lines(found: Result) -> list[str]:
    """One line for each network."""
    said = []
    for title, one in found.items():
        most = ", ".join(
            f"{kernel['name'][:40]} {kernel['us']:.0f} us in {kernel['number']:.0f}"
            for kernel in one["kernels"][:SHOWN]
        )
        said.append(
            f"{title}: {1e3 * one['seconds']:.2f} ms a step, of which the host asks for "
            f"{1e3 * one['host_seconds']:.2f} ms; {one['launches']:.0f} kernels busy for "
            f"{one['busy_us'] / 1e3:.2f} ms: {most}"
        )
    return said


def probed(network: Network, device: str) -> Result:
    """Seconds of a recorded step and of the host; by kernel, microseconds and number in a step.

    On the CPU the operations of torch stand for kernels.
    """
    trainee = Trainee(CONTESTANTS["fused"].replay(), network, device)
    trainee.prepare()
    taken = trainee.timed_steps(50 if device == "cuda" else STEPS)
    on_gpu = device == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    with profile(activities=[activity]) as traced:
        trainee.timed_steps(STEPS)
    totals: dict[str, list[float]] = {}
    for event in traced.events():
        if event.device_type == kind:
            one = totals.setdefault(event.name, [0, 0.0])
            one[0] += 1 / STEPS
            one[1] += (event.device_time if on_gpu else event.self_cpu_time_total) / STEPS
    kernels = [
        {"name": name, "number": number, "us": microseconds}
        for name, (number, microseconds) in sorted(totals.items(), key=lambda item: -item[1][1])
    ]
    return {
        "seconds": taken["seconds"],
        "host_seconds": taken["host_seconds"],
        "launches": sum(kernel["number"] for kernel in kernels),
        "busy_us": sum(kernel["us"] for kernel in kernels),
        "kernels": kernels,
    }
