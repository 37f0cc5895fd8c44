"""The engine for CPUs, which calls the compiled library."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densenet_cli.kernels.cpu.calls import NUMBER, Convolution, MapWork, check_all_fields
from densenet_cli.kernels.cpu.evaluation import PackedTrunk
from densenet_cli.kernels.engine import DRAW, ConvolutionWork, Correction
from densenet_cli.kernels.maps import REAL, BatchNorm, Maps, Norm
from densenet_cli.kernels.structure import Structure


class CpuEngine:
    """Computes with the functions of `library`, with torch's number of threads; see `Engine`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        check_all_fields(library)

    def start(self, weights: Sequence[Tensor], like: Tensor) -> CpuEngine:
        """This one: the weights are read as they are."""
        return self

    def copy(self, values: Tensor, target: Maps) -> None:
        """Write values (N, C, H, W) into the first C columns of target."""
        values = values.contiguous(memory_format=torch.channels_last)
        channels = values.shape[1]
        self._maps(
            "copy",
            target,
            channels,
            source=values.data_ptr(),
            source_pitch=channels,
            **_written(target),
        )

    def convolve(self, steps: Sequence[ConvolutionWork]) -> None:
        """Compute convolutions one after another."""
        weights = _weights(steps)
        self._convolutions("convolve", steps, map(_forwards, steps, weights))

    def evaluate(
        self, trunk: Structure, maps: Maps, conv: nn.Conv2d | None = None, images: Tensor | None = None
    ) -> Tensor:
        """The means (N, C) of a trunk's last maps. Its weights are packed anew if they have changed."""
        key, buffers = (maps.values.dtype, conv is None), trunk.buffers(maps)
        packed: PackedTrunk | None = trunk.packed.get(key)
        means = None if packed is None else packed.means(buffers, images)
        if means is None:
            trunk.packed[key] = packed = PackedTrunk(self._library, trunk, conv, maps.values.dtype)
            means = packed.means(buffers, images, unless_changed=False)
        assert means is not None
        return means

    def convolve_backward(self, steps: Sequence[ConvolutionWork]) -> list[Tensor]:
        """Add to the gradients of the sources. Returns those of each step's weight, γ and β."""
        weights, accumulate = _weights(steps), _start_gradients(steps)
        gradients = [
            (
                torch.empty_like(weight),
                torch.empty_like(step.norm.weight),
                torch.empty_like(step.norm.bias),
            )
            for step, weight in zip(steps, weights, strict=True)
        ]
        works = map(_backwards, steps, weights, accumulate, gradients)
        self._convolutions("convolve_backward", steps, works)
        for step in steps:
            if step.column == 0:
                step.target.gradient = None  # its only reader has used it
        return [tensor for of_step in gradients for tensor in of_step]

    def measure(self, maps: Maps) -> None:
        """Measure the statistics of maps that have their values."""
        self._maps(
            "measure", maps, maps.channels,
            source=maps.values.data_ptr(), source_pitch=maps.pitch,
            mean=maps.mean.data_ptr(), variance=maps.variance.data_ptr(),
        )  # fmt: skip

    def max_pool(self, source: Maps, norm: BatchNorm, target: Maps) -> Tensor:
        """Write the largest of 3x3 pixels of ReLU(norm(source)) into the first columns of target."""
        choice = torch.empty(target.pixels, source.channels, dtype=torch.uint8)
        read = source.norm(norm)
        self._maps(
            "max_pool", source, source.channels,
            choice=choice.data_ptr(), **_written(target), **_read(source, read),
        )  # fmt: skip
        return choice

    def max_pool_backward(
        self, source: Maps, norm: BatchNorm, target: Maps, choice: Tensor, correction: Correction
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient, from that of the target. Returns the gradients of γ and β."""
        assert source.gradient is not None
        gradients = torch.empty_like(norm.weight), torch.empty_like(norm.bias)
        read = source.norm(norm)
        gamma_gradient, beta_gradient = _addresses(gradients)
        self._maps(
            "max_pool_backward", source, source.channels,
            destination=source.gradient.data_ptr(), destination_pitch=source.pitch,
            gamma_gradient=gamma_gradient, beta_gradient=beta_gradient, choice=choice.data_ptr(),
            **_completed(target, correction), **_read(source, read),
        )  # fmt: skip
        source.add_reader(read, *gradients)
        return gradients

    def average_pool(self, source: Maps, target: Maps) -> None:
        """Write means of 2x2 pixels of source into the first columns of target."""
        self._maps(
            "average_pool", source, source.channels,
            source=source.values.data_ptr(), source_pitch=source.pitch, **_written(target),
        )  # fmt: skip

    def average_pool_backward(self, source: Maps, target: Maps, correction: Correction) -> None:
        """Write source.gradient: a quarter of the target's completed one for each of 2x2 pixels."""
        assert source.gradient is not None
        self._maps(
            "average_pool_backward", source, source.channels,
            destination=source.gradient.data_ptr(), destination_pitch=source.pitch,
            **_completed(target, correction),
        )  # fmt: skip

    def mean_activation(self, source: Maps, norm: BatchNorm) -> Tensor:
        """The mean of ReLU(norm(source)) over each image, (N, C)."""
        means = source.values.new_empty(source.images, source.channels)
        read = source.norm(norm)
        self._maps(
            "mean_activation", source, source.channels,
            destination=means.data_ptr(), destination_pitch=source.channels, **_read(source, read),
        )  # fmt: skip
        return means

    def mean_activation_backward(
        self, source: Maps, norm: BatchNorm, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient, from that of the means (N, C). Returns the gradients of γ and β."""
        assert source.gradient is not None
        gradients = torch.empty_like(norm.weight), torch.empty_like(norm.bias)
        read = source.norm(norm)
        gradient = gradient.to(source.values.dtype).contiguous()
        gamma_gradient, beta_gradient = _addresses(gradients)
        self._maps(
            "mean_activation_backward", source, source.channels,
            source=gradient.data_ptr(), source_pitch=source.channels,
            destination=source.gradient.data_ptr(), destination_pitch=source.pitch,
            gamma_gradient=gamma_gradient, beta_gradient=beta_gradient, **_read(source, read),
        )  # fmt: skip
        source.add_reader(read, *gradients)
        return gradients

    def corrected(self, source: Maps, channels: int, correction: Correction) -> Tensor:
        """The completed gradient of the first columns of source, (N, channels, H, W)."""
        size = source.images, channels, source.height, source.width
        gradient = torch.empty(size, dtype=source.values.dtype, memory_format=torch.channels_last)
        self._maps(
            "correct", source, channels,
            destination=gradient.data_ptr(), destination_pitch=channels,
            **_completed(source, correction),
        )  # fmt: skip
        return gradient

    def _convolutions(
        self, function: str, steps: Sequence[ConvolutionWork], works: Iterable[Convolution]
    ) -> None:
        self._call(function, steps[0].source, (Convolution * len(steps))(*works), len(steps))

    def _maps(self, function: str, shape: Maps, channels: int, **fields: Any) -> None:
        work = MapWork(
            shape.images, shape.height, shape.width, channels, torch.get_num_threads(), **fields
        )
        self._call(function, shape, work)

    def _call(
        self, function: str, maps: Maps, work: ctypes.Structure | ctypes.Array, *counts: int
    ) -> None:
        name = str(maps.values.dtype).removeprefix("torch.")
        getattr(self._library, f"{function}_{name}")(ctypes.byref(work), *map(NUMBER, counts))


def _address(tensor: Tensor, column: int) -> int:
    return tensor.data_ptr() + column * tensor.element_size()


def _addresses(tensors: tuple[Tensor, ...] | None) -> tuple[int | None, ...]:
    return (None, None) if tensors is None else tuple(tensor.data_ptr() for tensor in tensors)


def _weights(steps: Sequence[ConvolutionWork]) -> list[Tensor]:
    """The weights as the library reads them, channels last."""
    return [step.weight.contiguous(memory_format=torch.channels_last) for step in steps]


def _start_gradients(steps: Sequence[ConvolutionWork]) -> list[bool]:
    """Allocate the sources' gradients. Returns whether each step must add to a gradient that is there.

    Maps that only one step writes and only the next one reads share their gradients' memory.
    """
    passing = {step.target for step in steps if step.column == 0}
    accumulate, room = [], None
    for step in reversed(steps):
        source, is_passing = step.source, step.source in passing
        fits = is_passing and room is not None and room.shape == (source.pixels, source.pitch)
        accumulate.append(not source.start_gradient(room if fits else None))
        room = source.gradient if is_passing else room
    return accumulate[::-1]


def _forwards(step: ConvolutionWork, weight: Tensor) -> Convolution:
    source, norm, target = step.source, step.norm, step.target
    outputs, inputs, size, _ = weight.shape
    assert weight.dtype == REAL[source.values.dtype]
    work = Convolution(source.images, source.height, source.width, inputs, outputs, size)
    work.threads = torch.get_num_threads()
    work.input, work.input_pitch = source.values.data_ptr(), source.pitch
    work.mean, work.variance = _addresses(source.statistics(norm))
    work.gamma, work.beta, work.epsilon = norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps
    work.weight = weight.data_ptr()
    work.output, work.output_pitch = _address(target.values, step.column), target.pitch
    if step.seed is not None:
        work.dropout, work.seed = step.dropout, int(step.seed) + DRAW * step.draw
    if target.measured:
        work.output_mean = _address(target.mean, step.column)
        work.output_variance = _address(target.variance, step.column)
    return work


def _backwards(
    step: ConvolutionWork, weight: Tensor, accumulate: bool, gradients: tuple[Tensor, ...]
) -> Convolution:
    source, target, work = step.source, step.target, _forwards(step, weight)
    assert source.gradient is not None
    assert target.gradient is not None
    work.output_gradient = _address(target.gradient, step.column)
    work.output_gradient_pitch = target.pitch
    work.input_gradient, work.input_gradient_pitch = source.gradient.data_ptr(), source.pitch
    work.accumulate = accumulate
    work.weight_gradient, work.gamma_gradient, work.beta_gradient = _addresses(gradients)
    if target.measured:
        work.slope = _address(target.slope, step.column)
        work.offset = _address(target.offset, step.column)
    if source.measured:
        work.input_slope, work.input_offset = source.slope.data_ptr(), source.offset.data_ptr()
    return work


def _written(target: Maps) -> dict[str, Any]:
    """Fields for maps whose first columns are written."""
    fields = {"destination": target.values.data_ptr(), "destination_pitch": target.pitch}
    if target.measured:
        fields |= {"mean": target.mean.data_ptr(), "variance": target.variance.data_ptr()}
    return fields


def _completed(source: Maps, correction: Correction) -> dict[str, Any]:
    """Fields for the completed gradient of the first columns of maps."""
    assert source.gradient is not None
    slope, offset = _addresses(correction)
    return {
        "source": source.gradient.data_ptr(), "source_pitch": source.pitch,
        "maps": source.values.data_ptr(), "maps_pitch": source.pitch,
        "slope": slope, "offset": offset, "mean": source.mean.data_ptr(),
    }  # fmt: skip


def _read(source: Maps, norm: Norm) -> dict[str, Any]:
    """Fields for maps that a batch norm reads."""
    fields = dict(zip(("input_mean", "rstd", "gamma", "beta"), _addresses(norm), strict=True))
    return {"input": source.values.data_ptr(), "input_pitch": source.pitch, **fields}
