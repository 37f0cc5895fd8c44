"""The Triton kernels of whole training steps, compiled for GPUs that are not here.

Each is compiled with the arguments of its launch, but for tensors of torch's device "meta", which have
no numbers. The compiled kernels say what they take: registers, stack, shared memory, instructions.
"""

import importlib.util
import multiprocessing
import os
import re
import subprocess
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import pytest
import torch

from densenet_cli.kernels.libraries import parts_of
from densenet_cli.models.densenet import DenseNet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="there is no Triton for this machine"
    ),
]

BC_100 = {"growth_rate": 12, "depth": 100}
PLAIN_40 = {"growth_rate": 12, "depth": 40, "bottleneck": False, "compression": 1.0}
DENSENET_121 = {"growth_rate": 32, "depth": 121, "stem": "imagenet"}
ODD = {"growth_rate": 5, "depth": 10, "block_config": [1, 1], "dropout": 0.2, "stem": "imagenet"}
KERNELS = {
    *("pack", "convolve", "gradients"),
    *("add_up", "pool", "activate", "complete", "mean_activation", "mean_activation_gradient"),
}
MAX_POOL = {"max_pool", "max_pool_gradient"}  # only with the imagenet stem
MANY_OUTPUTS = {"weight_gradient"}  # only for convolutions that need more than one launch backward
SMALLEST = 99 * 1024
"""Bytes of shared memory that a program can have on any GPU since compute capability 8.0."""


class Resources(NamedTuple):
    """What one compiled kernel takes.

    Attributes:
        case: the constants of the launch that tell it from others of the same kernel.
        registers: of each thread.
        stack: bytes of each thread; more than 0 if registers were spilled to memory.
        shared: bytes of shared memory of each program.
        instructions: of its machine code; loops are counted once.
    """

    kernel: str
    case: str
    registers: int
    stack: int
    shared: int
    instructions: int


class _NoGPU:
    """What Triton's compiler needs of a driver, for a compute capability that is not here."""

    def __init__(self, capability):
        from triton.backends.compiler import GPUTarget

        self.get_current_target = lambda: GPUTarget("cuda", capability, 32)
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device: 0


def resources(capability, dtype, images, side, options, folder):
    """The resources of all kernels of a training step, each compiled once.

    Args:
        capability: of the GPU: 90 for 9.0.
        images, side: of a batch; each image has side x side pixels.
        options: of DenseNet.
        folder: for the compiled kernels.
    """
    os.environ["TRITON_CACHE_DIR"] = folder
    from triton.runtime import driver

    from densenet_cli.kernels.triton import engine, gradients, launch, weights

    compiled = {}

    def compile_only(kernel, grid, *arguments, **constants):
        constants = launch.adapted(constants, divmod(capability, 10))
        binary = kernel.warmup(*arguments, grid=(1,), **constants)
        assert _begins_rightly(binary, overlaps=capability >= 90)
        if binary.hash not in compiled:
            compiled[binary.hash] = _resources(kernel.__name__, constants, binary, folder)

    engine.launch = gradients.launch = launch.launch = weights.launch = compile_only
    driver.set_active(_NoGPU(capability))
    with torch.device("meta"):
        made = DenseNet(10, **options)
        stem = torch.empty(images, made.features.conv0.out_channels, side, side, dtype=dtype)
    parts_of(made).trunk(stem.requires_grad_(), engine.TritonEngine(), training=True).sum().backward()
    return sorted(compiled.values())


def _begins_rightly(binary, overlaps):
    """Whether a kernel that may overlap the one before waits for it before it uses memory."""
    code = binary.asm["ptx"]
    waits, uses = code.find("griddepcontrol.wait"), re.search(r"\b(ld|st|atom)\.global|cp\.async", code)
    assert binary.metadata.launch_pdl is overlaps
    return 0 < waits < uses.start() if overlaps else waits < 0


def _resources(name, constants, binary, folder):
    from triton import knobs

    path = os.path.join(folder, "kernel.cubin")
    with open(path, "wb") as file:
        file.write(binary.asm["cubin"])
    usage = _output(knobs.nvidia.cuobjdump.path, "--dump-resource-usage", path)
    registers, stack = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK"))
    code = _output(knobs.nvidia.nvdisasm.path, "--print-code", path)
    instructions = [line for line in re.findall(r"/\*[0-9a-f]{4,}\*/ +(.+)", code) if "NOP" not in line]
    case = " ".join(f"{key}={value}" for key, value in constants.items() if type(value) in (int, bool))
    return Resources(name, case, registers, stack, binary.metadata.shared, len(instructions))


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _prepare():
    os.environ["TRITON_INTERPRET"] = "0"
    torch.set_num_threads(1)


def table(rows):
    """The resources as text, the largest of each kernel in its columns first."""
    lines = [
        f"{one.kernel:26}{one.registers:4} registers {one.stack:4} stack "
        f"{one.shared:6} shared {one.instructions:6} instructions  {one.case}"
        for one in rows
    ]
    return "\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("images", "side", "options"),
    [
        pytest.param(64, 32, BC_100, id="BC-100-12"),
        pytest.param(64, 32, PLAIN_40, id="40-12"),
        pytest.param(64, 112, DENSENET_121, id="121"),
        pytest.param(2, 60, ODD, id="odd"),
    ],
)
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(90, torch.bfloat16), (80, torch.bfloat16), (80, torch.float32)],
    ids=["sm_90, bfloat16", "sm_80, bfloat16", "sm_80, float32"],
)
def test_all_kernels_compile_for_a_gpu(capability, dtype, images, side, options, tmp_path):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare) as pool:
        rows = pool.submit(resources, capability, dtype, images, side, options, str(tmp_path)).result()
    print(table(rows))
    more = (MAX_POOL if "stem" in options else set()) | (set() if options is ODD else MANY_OUTPUTS)
    assert {one.kernel for one in rows} == KERNELS | more
    assert max(one.shared for one in rows) <= SMALLEST
    spilled = [one for one in rows if one.stack]
    assert not spilled or options is ODD, table(spilled)  # columns of odd sizes are loaded one by one
