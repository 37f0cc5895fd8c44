"""How large the pieces are in which the Triton kernels of convolutions work.

Measured on an H200 in bfloat16, for the layers of DenseNet-BC (100, 12) and DenseNet-121 with batches
of 64: of some seven candidates for each kernel and shape, the fastest or nearly so.
"""

from __future__ import annotations

from typing import NamedTuple

MANY = 32768  # pixels that keep a GPU busy in large tiles
FEW = 6144  # pixels that need small ones


class Blocks(NamedTuple):
    """Pieces of one program's work.

    Attributes:
        pixels: of a tile.
        columns: outputs; backwards, columns of the gradient once a tap.
        inputs: channels of the input.
        warps: of 32 threads.
        stages: loads that are under way while others are used.
        programs: that share all pixels in `weight_gradient`, for all blocks of the weight together.
    """

    pixels: int
    columns: int
    inputs: int
    warps: int = 4
    stages: int = 3
    programs: int = 264


def blocks(kernel: str, outputs: int, taps: int, pixels: int, number: int) -> Blocks:
    """For a kernel of triton_convolution.

    Args:
        outputs: of the convolution, a multiple of 16.
        taps: 1 or 9.
        pixels: of all images together.
        number: bytes of one number of the maps.
    """
    choose = {
        ("convolve", 1): _convolve,
        ("convolve", 9): _convolve_taps,
        ("input_gradient", 1): _input_gradient,
        ("input_gradient", 9): _input_gradient_taps,
        ("weight_gradient", 1): _weight_gradient,
        ("weight_gradient", 9): _weight_gradient_taps,
    }
    chosen = choose[kernel, taps](outputs, pixels)
    if number > 2:  # as many bytes as in bfloat16
        return chosen._replace(inputs=max(16, chosen.inputs * 2 // number), stages=2)
    return chosen


def _convolve(outputs: int, pixels: int) -> Blocks:
    if outputs <= 64:
        return Blocks(128, 64, 64) if pixels >= MANY else Blocks(64, 64, 128, stages=2)
    return Blocks(32, 64, 64) if pixels < FEW else Blocks(64, 128, 64)


def _convolve_taps(outputs: int, pixels: int) -> Blocks:
    if outputs <= 16:
        return Blocks(128 if pixels >= MANY else 32 if pixels < FEW else 64, 16, 64)
    columns = 32 if outputs == 32 else 64
    return Blocks(32, columns, 128) if pixels < FEW else Blocks(64, columns, 128, stages=2)


def _input_gradient(outputs: int, pixels: int) -> Blocks:
    return Blocks(64, 64 if outputs <= 64 else 128, 64, stages=2)


def _input_gradient_taps(outputs: int, pixels: int) -> Blocks:
    if outputs <= 16:
        return Blocks(64, 16, 64)
    return Blocks(64, 32, 64 if pixels < FEW else 128)


def _weight_gradient(outputs: int, pixels: int) -> Blocks:
    return Blocks(64, 64 if outputs <= 64 else 128, 64)


def _weight_gradient_taps(outputs: int, pixels: int) -> Blocks:
    return Blocks(64, 64, 64, programs=528 if outputs > 16 and pixels >= MANY else 264)
