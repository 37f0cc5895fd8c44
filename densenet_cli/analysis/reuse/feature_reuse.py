"""How strongly each layer of a DenseNet uses the feature maps before it: figure 5 of arXiv:1608.06993.

For a reader l of a dense block and a source s, one of those whose maps it reads, the weight of their
connection is the mean of the absolute weights between them,

    w[s, l] = 1 / (m_s · n_l · a_l) · Σ |W_l[o, i, y, x]|, i over the maps of s, and all o, y, x,

with m_s maps of the source, n_l outputs of the reader and a_l elements of its kernel. This is the
paper's "average L1 norm, normalized by number of input feature-maps", also divided by the area of the
kernel, which is the same within a column and makes a 3x3 comparable with a 1x1. Source 0 is the block's
input, source s the k maps of layer s. Readers are the layers 1 to L, then the transition or classifier.
In a bottleneck layer the weights are those of the 1x1 convolution, which reads the maps; its 3x3
convolution is not considered. In the classifier they are those of the linear layer.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from densenet_cli.analysis.reuse.connections import Connections, Reader, connections, per_input_map


@dataclass(frozen=True)
class BlockReuse:
    """The connections of one dense block of L layers.

    Attributes:
        name: as "denseblock1".
        reader_after: "transition1", ... or "classifier": the last column.
        weights: w[s, l], (L + 1, L + 1): a row for each source, a column for each reader; NaN where
            the reader comes before the source.
    """

    name: str
    reader_after: str
    weights: Tensor

    def columns(self) -> list[Tensor]:
        """For each reader the weights of its sources: 1, 2, ..., L + 1 numbers."""
        return [self.weights[: reader + 1, reader] for reader in range(len(self.weights))]

    def relative(self) -> Tensor:
        """The weights of each column divided by the largest of the column.

        Columns cannot be compared with one another: the scale of a layer's weights has no effect,
        since batch norm removes it from the layer's output.
        """
        return self.weights / self.weights.nan_to_num(0).amax(0)


def feature_reuse(network: nn.Module, through_norm: bool = False) -> list[BlockReuse]:
    """The connections of each dense block, as figure 5 shows them.

    Args:
        network: a DenseNet, of any kind that `connections` supports.
        through_norm: multiply each weight by |γ| of the batch norm between map and weight, which
            the paper does not do. The result is the weight of a map of unit variance.

    Raises:
        UserError: it is not a DenseNet.
    """
    return [
        BlockReuse(block.name, block.readers[-1].name, _matrix(block, through_norm))
        for block in connections(network)
    ]


def _matrix(block: Connections, through_norm: bool) -> Tensor:
    size = len(block.readers)
    matrix = torch.full((size, size), math.nan, dtype=torch.float64)
    for column, reader in enumerate(block.readers):
        weights = _weights(reader, through_norm)
        for row, source in enumerate(block.sources[: column + 1]):
            matrix[row, column] = weights[source].mean()
    return matrix


def _weights(reader: Reader, through_norm: bool) -> Tensor:
    weights = per_input_map(reader).cpu()
    return weights * reader.norm.weight.detach().cpu().abs() if through_norm else weights


@dataclass(frozen=True)
class Spread:
    """How evenly readers distribute their weight over their sources; means over readers.

    Attributes:
        evenness: entropy of a column's weights as shares of their sum, divided by the entropy of equal
            shares: 1 if all sources have the same weight, 0 if one source has all the weight.
        largest: weight of the strongest source divided by the mean of the column: 1 if all are equal,
            the number of sources if one has all the weight.
    """

    evenness: float
    largest: float


@dataclass(frozen=True)
class Claims:
    """The four observations of section 5 ("Feature Reuse") as numbers.

    None where a network has no such layers. Compare them with those of the untrained network, where
    `input_over_others` and `late_over_early` are near 1, and `lateness` is near 0.

    Attributes:
        layers: 1. all layers spread their weights over many sources. Layers with two sources or more.
        transitions: 2. the transitions do the same.
        input_over_others: 3. the layers of blocks 2, 3, ... give the least weight to the block's
            input, which is the transition's output: its weight divided by the mean of the other
            sources, the mean over these layers.
        input_is_least: 3. the share of these layers, 0..1, whose weakest source is the block's input.
        input_is_least_by_chance: the same share if each source were the weakest equally often.
        late_over_early: 4. the classifier concentrates on late maps: the mean weight of the last third
            of its sources divided by that of the first third.
        lateness: 4. correlation (Pearson) of a source's weight in the classifier and its position,
            -1..1.
    """

    layers: Spread | None
    transitions: Spread | None
    input_over_others: float | None
    input_is_least: float | None
    input_is_least_by_chance: float | None
    late_over_early: float | None
    lateness: float | None


def claims(reuse: list[BlockReuse]) -> Claims:
    """The observations of section 5 as numbers, from the result of `feature_reuse`."""
    layers = [column for block in reuse for column in block.columns()[1:-1]]
    later = [column for block in reuse[1:] for column in block.columns()[1:-1]]
    classifier = reuse[-1].columns()[-1]
    third = len(classifier) // 3
    return Claims(
        layers=_spread(layers),
        transitions=_spread([block.columns()[-1] for block in reuse[:-1]]),
        input_over_others=_mean([float(column[0] / column[1:].mean()) for column in later]),
        input_is_least=_mean([float(column.argmin() == 0) for column in later]),
        input_is_least_by_chance=_mean([1 / len(column) for column in later]),
        late_over_early=float(classifier[-third:].mean() / classifier[:third].mean())
        if third
        else None,
        lateness=_lateness(classifier),
    )


def _spread(columns: list[Tensor]) -> Spread | None:
    if not columns:
        return None
    largest = [float(column.max() / column.mean()) for column in columns]
    return Spread(statistics.fmean(map(evenness, columns)), statistics.fmean(largest))


def evenness(column: Tensor) -> float:
    """Entropy of weights (n,) as shares of their sum, divided by log n; n is 2 or more."""
    shares = column / column.sum()
    return float(-torch.xlogy(shares, shares).sum()) / math.log(len(shares))


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _lateness(column: Tensor) -> float | None:
    """Correlation of weights (n,) with their position; None if n < 3 or all are equal."""
    if len(column) < 3 or bool(column.std() == 0):
        return None
    positions = torch.arange(len(column), dtype=column.dtype)
    return float(torch.corrcoef(torch.stack([positions, column]))[0, 1])
