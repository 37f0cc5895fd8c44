"""The block sizes of the Triton kernels of convolutions.

Measured on an H200 in bfloat16, for the layers of DenseNet-BC (100, 12) and DenseNet-121 with a batch
of 64, before the kernels were split and merged as they are now: for each kernel and shape the fastest
of about seven candidates, or nearly so. From the compiled code are limits of registers, the block of 64
inputs for few pixels, and all sizes of `gradients`: fewest instructions without spilled registers.
"""

from __future__ import annotations

from typing import NamedTuple

THREE = 168  # registers of a thread, with which three programs of four warps fit a multiprocessor
MANY = 32768  # pixels: enough to keep a GPU busy with large tiles
FEW = 6144  # pixels: small tiles are needed to keep it busy


class Blocks(NamedTuple):
    """The block sizes of one program.

    Attributes:
        pixels: in a tile.
        columns: outputs; in the backward pass, columns of the gradient: one for each output and tap.
        inputs: channels of the input.
        warps: of 32 threads.
        stages: of Triton's software pipeline: loads in flight.
        registers: of a thread, at most; None if the compiler may choose.
        programs: where they add up parts of the weight's gradient, over all blocks of the weight
            together; they share the pixels.
    """

    pixels: int
    columns: int
    inputs: int
    warps: int = 4
    stages: int = 3
    registers: int | None = None
    programs: int = 264


def blocks(kernel: str, outputs: int, taps: int, pixels: int, number: int) -> Blocks:
    """The block sizes for a kernel of convolution_kernels.py.

    Args:
        outputs: of the convolution, a multiple of 16.
        taps: 1 or 9.
        pixels: of all images together.
        number: bytes of one number of the feature maps.
    """
    choose = {
        ("convolve", 1): _convolve,
        ("convolve", 9): _convolve_taps,
        ("gradients", 1): _gradients,
        ("gradients", 9): _gradients_taps,
        ("input_gradient", 1): _input_gradient,
        ("input_gradient", 9): _input_gradient_taps,
        ("weight_gradient", 1): _weight_gradient,
        ("weight_gradient", 9): _weight_gradient_taps,
    }
    chosen = choose[kernel, taps](outputs, pixels)
    if number > 2:  # the same number of bytes as in bfloat16
        inputs = max(16, chosen.inputs * 2 // number)
        pixels_of_tile = 32 if (kernel, taps) == ("gradients", 1) else chosen.pixels  # 64 would spill
        return chosen._replace(
            inputs=inputs, pixels=pixels_of_tile, stages=min(chosen.stages, 2), registers=None
        )
    return chosen


def _convolve(outputs: int, pixels: int) -> Blocks:
    if outputs <= 64:
        return Blocks(128, 64, 64) if pixels >= MANY else Blocks(64, 64, 64, stages=2)
    return Blocks(32, 64, 64) if pixels < FEW else Blocks(64, 128, 64)


def _convolve_taps(outputs: int, pixels: int) -> Blocks:
    if outputs <= 16:
        return Blocks(128 if pixels >= MANY else 32 if pixels < FEW else 64, 16, 64)
    columns = 32 if outputs == 32 else 64
    return Blocks(32, columns, 128) if pixels < FEW else Blocks(64, columns, 128, stages=2)


def _input_gradient(outputs: int, pixels: int) -> Blocks:
    return Blocks(64, 128, 64, stages=2, registers=THREE)


def _input_gradient_taps(outputs: int, pixels: int) -> Blocks:
    if outputs <= 16:
        return Blocks(64, 16, 64, registers=THREE)
    return Blocks(64, 32, 64, registers=THREE) if pixels < FEW else Blocks(64, 32, 128)


def is_merged(outputs: int, taps: int) -> bool:
    """Whether one launch can compute all gradients of a convolution without spilling registers.

    Args:
        outputs, taps: as those of `blocks`.
    """
    return outputs <= (64 if taps == 1 else 16)


def _gradients(outputs: int, pixels: int) -> Blocks:
    if pixels < FEW:  # one tile each
        return Blocks(64, 64, 64, stages=1, registers=THREE, programs=528)
    return Blocks(64, 64, 64, stages=1)


def _gradients_taps(outputs: int, pixels: int) -> Blocks:
    return Blocks(128 if pixels >= MANY else 64, 16, 64, stages=1)


def _weight_gradient(outputs: int, pixels: int) -> Blocks:
    return Blocks(64, 128, 64)


def _weight_gradient_taps(outputs: int, pixels: int) -> Blocks:
    return Blocks(64, 64, 64, programs=528 if outputs > 16 and pixels >= MANY else 264)
