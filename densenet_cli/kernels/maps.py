"""Feature maps in one buffer, with the statistics and gradients that all their readers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

REAL = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
"""Number format of maps -> number format of their statistics and of parameters."""

LINE = 64  # bytes of a cache line


class Norm(NamedTuple):
    """A batch norm, y = (x - mean)·rstd·gamma + beta; (C,) each."""

    mean: Tensor
    rstd: Tensor
    gamma: Tensor
    beta: Tensor


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """The parameters and buffers that an nn.BatchNorm2d has when a forward pass begins, (C,) each.

    The backward pass uses the same ones, even if the module has got others by then.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    eps: float
    momentum: float

    @classmethod
    def of(cls, module: nn.BatchNorm2d) -> BatchNorm:
        """Those of a module, read without nn.Module's slow __getattr__."""
        own: dict[str, Any] = module._parameters | module._buffers
        return cls(**own, eps=module.eps, momentum=cast(float, module.momentum))

    @property
    def num_features(self) -> int:
        """C."""
        return len(self.weight)


class Maps:
    """Feature maps of N images, channels last, with their statistics and their gradient.

    A layer of a dense block reads the first columns and writes the next ones, so that nothing is
    concatenated. Mean and variance of a map do not depend on its reader: they are measured once, when
    it is written.

    Args:
        like: a tensor with the number format and device that the maps should have.
        images, height, width, channels: N, H, W, C.
        measured: whether statistics are measured when maps are written.

    Attributes:
        pixels: N·H·W.
        values: (pixels, pitch). The pitch is C, or larger, so that each pixel begins on a cache line.
        mean, variance: (C,) over all pixels, if measured; the variance is the biased one.
        gradient: like values: Σ over readers of scale·(gradient of their batch norm's output). The part
            that comes from the dependence of the statistics on the maps is missing: see `correction`.
        slope, offset: (C,) of the missing part, as far as its readers are done, see start_corrections.
    """

    slope: Tensor
    offset: Tensor

    def __init__(
        self, like: Tensor, images: int, height: int, width: int, channels: int, measured: bool
    ) -> None:
        self.images, self.height, self.width, self.channels = images, height, width, channels
        self.measured, self.pixels = measured, images * height * width
        line = LINE // like.element_size()
        self.pitch = channels if channels < 2 * line else -(-channels // line) * line
        self.values = like.new_empty(self.pixels, self.pitch)
        self.mean, self.variance = like.new_empty(2, channels, dtype=REAL[like.dtype])
        self.gradient: Tensor | None = None

    @classmethod
    def of(cls, values: Tensor, measured: bool) -> Maps:
        """Maps with given values (N, C, H, W), which are not copied if they are channels last."""
        images, channels, height, width = values.shape
        maps = cls(values.new_empty(0), 0, height, width, channels, measured)
        maps.images, maps.pixels, maps.pitch = images, images * height * width, channels
        maps.values = (
            values.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(0, 2)
        )
        return maps

    def norm(self, batch_norm: BatchNorm) -> Norm:
        """A batch norm of the first columns, with the statistics that it uses."""
        (mean, variance), channels = self.statistics(batch_norm), batch_norm.num_features
        rstd = (variance[:channels] + batch_norm.eps).rsqrt_()
        return Norm(mean[:channels], rstd, batch_norm.weight, batch_norm.bias)

    def statistics(self, batch_norm: BatchNorm) -> tuple[Tensor, Tensor]:
        """Mean and variance that a batch norm uses: the maps' if measured, else its running ones."""
        if self.measured:
            return self.mean, self.variance
        return batch_norm.running_mean, batch_norm.running_var

    def start_gradient(self, room: Tensor | None = None) -> bool:
        """Allocate the gradient if there is none. Returns whether there was none.

        Args:
            room: memory to use for it, if there is some.
        """
        if self.gradient is not None:
            return False
        size = self.pixels, self.pitch
        if room is None:
            room = torch.empty(size, dtype=self.values.dtype, device=self.values.device)
        self.gradient = room.view(size)
        return True

    def add_reader(self, norm: Norm, gamma_gradient: Tensor, beta_gradient: Tensor) -> None:
        """Add the part of a reader, which has added to the gradient, to slope and offset."""
        if not self.measured:
            return
        scale, channels = norm.gamma * norm.rstd, len(norm.gamma)
        self.offset[:channels].addcmul_(scale, beta_gradient, value=-1 / self.pixels)
        self.slope[:channels].addcmul_(scale.mul_(norm.rstd), gamma_gradient, value=-1 / self.pixels)

    def correction(self, begin: int, end: int) -> tuple[Tensor, Tensor] | None:
        """What completes the gradient of columns begin to end once all readers have added to it.

        With x̂ = (x - mean)·rstd, the gradient of a batch norm's input is
        scale·(dy - mean(dy) - x̂·mean(dy·x̂)), where scale = γ·rstd, and Σ dy and Σ dy·x̂ are the
        gradients of β and γ. Mean and x are the same for all readers, so that the last two terms of all
        of them together are slope·(x - mean) + offset.

        Returns:
            slope and offset, (end - begin,) each; None if the maps are not measured.
        """
        if not self.measured:
            return None
        return self.slope[begin:end], self.offset[begin:end]

    def forget_values(self) -> None:
        """Free the values; the gradient still has the same shape."""
        self.values = self.values.new_empty(0)


def start_corrections(all_maps: Iterable[Maps]) -> None:
    """Let slope and offset of all maps of a pass be zero, before a backward pass."""
    sizes = {maps: -(-maps.channels // LINE) * LINE for maps in all_maps}
    zeros = next(iter(sizes)).mean.new_zeros(2 * sum(sizes.values()))
    for (maps, size), part in zip(
        sizes.items(), zeros.split([2 * size for size in sizes.values()]), strict=True
    ):
        maps.slope, maps.offset = part.view(2, size)[:, : maps.channels]
