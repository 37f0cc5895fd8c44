"""A DenseNet between its first convolution and its classifier, as one autograd function.

The feature maps of a block lie in one buffer and share their statistics (see `Maps`). In the forward
pass each layer reads the first columns of the buffer and writes its k new ones. The backward pass
reads the same columns again, normalises them again, and adds the gradients of all readers up in a
second buffer. What is kept for it are the maps and the 4k maps of each bottleneck: memory that grows
linearly with depth. Sharing buffers and recomputing are ideas of Pleiss et al. 2017
(arXiv:1707.06990); separating batch norm's statistics from its normalisation is one of Jung et al.
2019 (arXiv:1807.01702).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from densenet_cli.kernels.engine import ConvolutionWork, Engine
from densenet_cli.kernels.maps import BatchNorm, Maps, start_corrections
from densenet_cli.kernels.structure import Convolution, Structure


class Trunk(Structure):
    """Computes the modules of a DenseNet between its first convolution and its classifier."""

    def __call__(self, stem: Tensor, engine: Engine, training: bool) -> Tensor:
        """The classifier's input (N, C) from the maps (N, C0, H, W) of the first convolution.

        Args:
            stem: maps for which `takes` is true.
            training: whether to normalise by the batch's statistics, update the running ones and
                drop; else the running statistics are used.

        Raises:
            ValueError: in training with a single value per channel, as nn.BatchNorm2d does.
        """
        parameters = [parameter for step in self.convolutions() for parameter in _parameters(step)]
        parameters += [self.last.weight, self.last.bias]
        if self.first is not None:
            parameters[:0] = [self.first.weight, self.first.bias]
        if training:
            self.packed.clear()  # the weights will change
        # To be asked here: inside an autograd function gradients are always off.
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (stem, *parameters))
        return _TrunkFunction.apply(_Pass(self, engine, training, keep), stem, *parameters)

    def evaluate(
        self, conv: nn.Conv2d, images: Tensor, dtype: torch.dtype, engine: Engine
    ) -> Tensor | None:
        """The classifier's input in evaluation without gradients, from the images (N, C, H, W).

        Args:
            conv: the first convolution, 7x7 with stride 2; `first` follows.
            images: of the number format of parameters.
            dtype: the number format of feature maps.

        Returns:
            (N, C); None if the engine leaves the first convolution to its module.
        """
        count, _, height, width = images.shape
        size = count, (height + 3) // 4, (width + 3) // 4, self.width(0, conv.out_channels)
        maps = Maps(images.new_empty(0, dtype=dtype), *size, measured=False)
        return engine.evaluate(self, maps, conv, images)


def _parameters(step: Convolution) -> tuple[Tensor, Tensor, Tensor]:
    return step.conv.weight, step.norm.weight, step.norm.bias


class _TrunkFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passed: _Pass, stem: Tensor, *parameters: Tensor) -> Tensor:
        ctx.passed = passed
        if passed.keep:
            # Read again by the backward pass. Autograd raises an error if one was changed in place.
            norms = [] if passed.training else passed.trunk.norms()
            running = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
            ctx.save_for_backward(*parameters, *running)
        return passed.forward(stem)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.passed is None:
            raise RuntimeError(
                "a second backward pass through the fused DenseNet needs what the first one freed: "
                "call the first one with retain_graph=True"
            )
        _ = ctx.saved_tensors  # raises RuntimeError if one was changed
        passed, retain = ctx.passed, torch._C._autograd._get_current_graph_task_keep_graph()
        if not retain:
            ctx.passed = None
        return None, *passed.backward(gradient, retain)


class _Convolved(NamedTuple):
    """Convolutions computed one after another: those of a block and of its transition."""

    steps: Sequence[ConvolutionWork]

    @property
    def source(self) -> Maps:
        """The maps of the block."""
        return self.steps[0].source

    def sources(self) -> list[Maps]:
        """All maps that are read."""
        return [step.source for step in self.steps]

    def backward(self, engine: Engine) -> Sequence[Tensor]:
        """Compute the sources' gradients from the targets'. Returns those of the parameters."""
        return engine.convolve_backward(self.steps)


class _Pooled(NamedTuple):
    """Average pooling into the first columns of target."""

    source: Maps
    target: Maps

    def sources(self) -> list[Maps]:
        """All maps that are read."""
        return [self.source]

    def backward(self, engine: Engine) -> Sequence[Tensor]:
        """Compute the source's gradient from the target's."""
        self.source.start_gradient()
        correction = self.target.correction(0, self.source.channels)
        engine.average_pool_backward(self.source, self.target, correction)
        return ()


class _MaxPooled(NamedTuple):
    """Batch norm, ReLU and max pooling into the first columns of target."""

    source: Maps
    norm: BatchNorm
    target: Maps
    choice: Tensor

    def sources(self) -> list[Maps]:
        """All maps that are read."""
        return [self.source]

    def backward(self, engine: Engine) -> Sequence[Tensor]:
        """Compute the source's gradient from the target's. Returns those of γ and β."""
        self.source.start_gradient()
        correction = self.target.correction(0, self.source.channels)
        return engine.max_pool_backward(*self, correction=correction)


class _Pass:
    """A forward pass, and what the backward pass needs of it."""

    def __init__(self, trunk: Trunk, engine: Engine, training: bool, keep: bool) -> None:
        self.trunk, self.engine, self.training, self.keep = trunk, engine, training, keep
        self.tape: list[_Convolved | _Pooled | _MaxPooled] = []
        self.read: list[tuple[BatchNorm, Maps]] = []
        self.drops = training and any(step.dropout for step in trunk.convolutions())
        self.seed: Tensor | None = None
        self.draws = 0

    def forward(self, stem: Tensor) -> Tensor:
        """The means (N, C) of the last maps."""
        weights = [step.conv.weight for step in self.trunk.convolutions()]
        self.engine = self.engine.start(weights, stem)
        if self.drops:  # by torch's generator, as nn.Dropout
            self.seed = torch.randint(2**62, (), device=stem.device)
        self.stem_channels = stem.shape[1]
        maps = self._stem(stem)
        if not (self.training or self.keep):
            means = self.engine.evaluate(self.trunk, maps)
            if means is not None:
                return means
        return self._blocks(maps, self.stem_channels)

    def _blocks(self, maps: Maps, column: int) -> Tensor:
        """All that follows the stem, which has filled the first block's buffer up to `column`."""
        for index in range(len(self.trunk.transitions)):
            maps, column = self._block_and_transition(index, maps, column)
        self._convolve(self._block(len(self.trunk.transitions), maps, column))
        self.last = maps, self._note_reader(self.trunk.last, maps)
        if self.training:
            _update_running_statistics(self.read)
        self.read.clear()  # else all maps would be kept until the end of the backward pass
        return self.engine.mean_activation(*self.last)

    def backward(self, gradient: Tensor, retain: bool) -> list[Tensor]:
        """The gradients of the stem's maps and of the parameters, in the order of `Trunk.__call__`.

        Args:
            gradient: of the means.
            retain: whether another backward pass may follow; else maps are freed on the way.
        """
        last = self._begin_backward(gradient, retain)
        gradients: list[Tensor] = [*reversed(last)]
        tape = self.tape.copy() if retain else self.tape
        while tape:
            gradients += reversed(tape.pop().backward(self.engine))
        correction = self.first.correction(0, self.stem_channels)
        stem = self.engine.corrected(self.first, self.stem_channels, correction)
        for step in self.tape:
            step.source.gradient = None
        return [stem, *reversed(gradients)]

    def _begin_backward(self, gradient: Tensor, retain: bool) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the last maps from that of the means. Returns those of γ and β."""
        maps, norm = self.last
        if not retain:
            del self.last
        start_corrections([maps, *(source for step in self.tape for source in step.sources())])
        maps.start_gradient()
        return self.engine.mean_activation_backward(maps, norm, gradient)

    def _stem(self, stem: Tensor) -> Maps:
        """The first block's buffer, with the stem's output in its first columns."""
        images, channels, height, width = stem.shape
        wide = self.trunk.width(0, channels)
        if self.trunk.first is None:
            self.first = Maps(stem, images, height, width, wide, self.training)
            self.engine.copy(stem, self.first)
            return self.first
        self.first = Maps.of(stem, self.training)
        if self.training:
            self.engine.measure(self.first)
        norm = self._note_reader(self.trunk.first, self.first)
        maps = Maps(stem, images, (height + 1) // 2, (width + 1) // 2, wide, self.training)
        choice = self.engine.max_pool(self.first, norm, maps)
        if self.keep:
            self.tape.append(_MaxPooled(self.first, norm, maps, choice))
        return maps

    def _block(self, index: int, maps: Maps, column: int) -> list[ConvolutionWork]:
        """The convolutions of a block, which write new maps from `column` on into its buffer."""
        steps, hidden = [], None
        for layer in self.trunk.blocks[index]:
            source = maps
            for bottleneck in layer[:-1]:
                channels = bottleneck.conv.out_channels
                if hidden is None or self.keep or self.training or hidden.channels != channels:
                    hidden = _maps_like(maps, channels, self.training)
                steps.append(self._work(bottleneck, source, hidden, 0))
                source = hidden
            steps.append(self._work(layer[-1], source, maps, column))
            column += layer[-1].conv.out_channels
        return steps

    def _block_and_transition(self, index: int, maps: Maps, column: int) -> tuple[Maps, int]:
        """Compute both. Returns the next block's buffer, and how many of its columns are filled."""
        step = self.trunk.transitions[index]
        channels = step.conv.out_channels
        smaller = Maps(
            maps.values, maps.images, maps.height // 2, maps.width // 2,
            self.trunk.width(index + 1, channels), self.training,
        )  # fmt: skip
        block = self._block(index, maps, column)
        fewer = _maps_like(maps, channels, measured=False)
        self._convolve([*block, self._work(step, maps, fewer, 0)])
        self.engine.average_pool(fewer, smaller)
        fewer.forget_values()
        if self.keep:
            self.tape.append(_Pooled(fewer, smaller))
        return smaller, channels

    def _work(self, step: Convolution, source: Maps, target: Maps, column: int) -> ConvolutionWork:
        norm = self._note_reader(step.norm, source)
        dropout = step.dropout if self.training else 0.0
        seed = self.seed if dropout else None
        self.draws += 1 if dropout else 0
        weight = step.conv.weight
        return ConvolutionWork(source, norm, weight, target, column, dropout, seed, self.draws)

    def _convolve(self, steps: Sequence[ConvolutionWork]) -> None:
        self.engine.convolve(steps)
        if self.keep:
            self.tape.append(_Convolved(steps))

    def _note_reader(self, module: nn.BatchNorm2d, maps: Maps) -> BatchNorm:
        if self.training and maps.pixels == 1:
            shape = (1, module.num_features, 1, 1)
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {shape}"
            )
        norm = BatchNorm.of(module)
        self.read.append((norm, maps))
        return norm


def _maps_like(maps: Maps, channels: int, measured: bool) -> Maps:
    return Maps(maps.values, maps.images, maps.height, maps.width, channels, measured)


def _update_running_statistics(read: list[tuple[BatchNorm, Maps]]) -> None:
    """Update running means and variances as nn.BatchNorm2d does, each batch norm's once per step."""
    measured = list({maps: None for _, maps in read})
    factors = [maps.pixels / (maps.pixels - 1) for maps in measured]
    variances = torch._foreach_mul([maps.variance for maps in measured], factors)
    unbiased = dict(zip(measured, variances, strict=True))
    running: dict[float, tuple[list[Tensor], list[Tensor]]] = {}  # momentum: (old, new)
    for norm, maps in read:
        old, new = running.setdefault(norm.momentum, ([], []))
        old += [norm.running_mean, norm.running_var]
        new += [maps.mean[: norm.num_features], unbiased[maps][: norm.num_features]]
    for momentum, (old, new) in running.items():
        torch._foreach_lerp_(old, new, momentum)
    torch._foreach_add_([norm.num_batches_tracked for norm, _ in read], 1)
