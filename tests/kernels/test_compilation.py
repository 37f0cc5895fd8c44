"""The compiled library, also for other processors than this one."""

import ctypes
import importlib.util
import platform
import shlex
import shutil
import subprocess

import pytest
import torch
from test_fused_densenet import NETWORKS, assert_as_near_to_the_truth, assert_close, pair, step

from densenet_cli.kernels import selection
from densenet_cli.kernels.cpu import calls, compilation

X86 = platform.machine() in ("x86_64", "AMD64")
# SSE2 alone; AVX2 (Haswell, Zen); AVX-512; its bfloat16; AMX tiles.
TARGETS = ("x86-64", "x86-64-v3", "x86-64-v4", "cooperlake", "sapphirerapids")


def options(target):
    """The compiler's options for another processor."""
    return tuple(
        f"-march={target}" if word == compilation.NATIVE else word for word in compilation.OPTIONS
    )


@pytest.mark.skipif(not X86, reason="these are kinds of x86 processors")
@pytest.mark.parametrize("target", TARGETS)
def test_the_library_compiles_for(target):
    compiler = shutil.which("c++")
    assert compiler, "the tests need a C++ compiler"
    command = [compiler, *options(target), "-fsyntax-only", "-Wall", "-Werror"]
    answer = subprocess.run(
        [*command, compilation.SOURCES / "kernels.cpp"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, f"{shlex.join(command)}: {answer.stderr}"


def test_options_typed_with_the_compiler_belong_to_the_file_s_name():
    keys = {compilation._key(words) for words in (["c++"], ["c++", "-mno-avx512f"], ["c++", "-O1"])}
    assert len(keys) == 3


@pytest.mark.parametrize("fields", ["swapped", "one less", "of another size"])
def test_a_struct_that_differs_from_the_library_s_is_refused(fields):
    library = compilation.load()
    described = list(calls.MapWork._fields_)
    if fields == "swapped":
        described[0], described[1] = described[1], described[0]
    elif fields == "one less":
        described.pop()
    else:
        described[0] = (described[0][0], ctypes.c_int32 * 3)

    class Other(ctypes.Structure):
        _fields_ = tuple(described)

    with pytest.raises(RuntimeError, match=r"src/calls\.h and cpu/calls\.py differ"):
        calls.check_fields(library.densenet_map_work_fields, Other)


@pytest.fixture
def library_for(monkeypatch, tmp_path):
    """A function that makes fused networks use a library compiled for another processor."""

    def use(target):
        monkeypatch.setattr(compilation, "OPTIONS", options(target))
        monkeypatch.setenv("DENSENET_KERNELS", str(tmp_path))
        forget()

    def forget():
        compilation.load.cache_clear()
        selection.engine_or_reason.cache_clear()

    yield use
    forget()


def can_run(target):
    capabilities = torch.backends.cpu.get_cpu_capability()
    return {
        "x86-64": True,
        "x86-64-v3": capabilities in ("AVX2", "AVX512"),
        "x86-64-v4": capabilities == "AVX512",
        "cooperlake": torch.cpu._is_avx512_bf16_supported(),
    }[target]


@pytest.mark.slow
@pytest.mark.skipif(not X86, reason="these are kinds of x86 processors")
@pytest.mark.parametrize("target", TARGETS[:3])
def test_the_library_for_lesser_processors_equals_reference(target, library_for):
    if not can_run(target):
        pytest.skip(f"this processor cannot run {target}")
    library_for(target)
    for network, (sizes, (images, height, width)) in NETWORKS.items():
        reference, fused = pair(sizes, torch.float32)
        batch, labels = torch.randn(images, 3, height, width) + 0.5, torch.randint(10, (images,))
        found, expected = step(fused, batch, labels), step(reference, batch, labels)
        assert_close(found, expected, 1e-4)
        assert not all(torch.equal(found[name], expected[name]) for name in found), network


@pytest.mark.slow
@pytest.mark.skipif(not X86, reason="these are kinds of x86 processors")
@pytest.mark.parametrize("target", ["x86-64-v4", "cooperlake"])
def test_the_library_without_tiles_is_near_to_the_truth_in_bfloat16(target, library_for):
    if not can_run(target):
        pytest.skip(f"this processor cannot run {target}")
    library_for(target)
    for name in NETWORKS:
        assert_as_near_to_the_truth(name, draws=12)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton here")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_triton_cannot_start_there_is_a_reason_instead_of_an_engine(monkeypatch):
    from triton.runtime import driver

    class WithoutCompiler:
        def get_current_target(self):
            raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    start = selection.engine_or_reason.__wrapped__
    assert start("cuda").startswith("Triton cannot start: ")
    monkeypatch.setattr(driver, "_active", WithoutCompiler(), raising=False)
    assert start("cuda") == "Triton cannot start: Failed to find C compiler."
