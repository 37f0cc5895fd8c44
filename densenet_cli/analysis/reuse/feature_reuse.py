"""How strongly each layer of a DenseNet uses the maps before it: figure 5 of arXiv:1608.06993.

For a reader l of a dense block and a source s, whose maps it reads among others, the weight of their
connection is the mean of the absolute weights between them,

    w[s, l] = 1 / (m_s · n_l · a_l) · Σ |W_l[o, i, y, x]|, i over the maps of s, and all o, y, x,

with m_s maps of the source, n_l outputs of the reader and a_l elements of its kernel. That is the
paper's "average L1 norm, normalized by number of input feature-maps", divided by the area of the kernel
too, which is the same within a column and lets a 3x3 be compared with a 1x1. Source 0 is the block's
input, source s the k maps of layer s. Readers are the layers 1 to L, then the transition or classifier.
In a bottleneck layer the weights are those of the 1x1 convolution, which reads the maps; what its 3x3
convolution makes of them is not in the picture. In the classifier they are those of the linear layer.
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
        weights: w[s, l], (L + 1, L + 1): a row a source, a column a reader; NaN where the reader
            comes before the source.
    """

    name: str
    reader_after: str
    weights: Tensor

    def columns(self) -> list[Tensor]:
        """Of each reader the weights of its sources: 1, 2, ..., L + 1 numbers."""
        return [self.weights[: reader + 1, reader] for reader in range(len(self.weights))]

    def relative(self) -> Tensor:
        """The weights with the largest of each column as 1.

        The size of a column as a whole says nothing: batch norm takes the scale out of what a
        layer gives.
        """
        return self.weights / self.weights.nan_to_num(0).amax(0)


def feature_reuse(network: nn.Module, through_norm: bool = False) -> list[BlockReuse]:
    """The connections of each dense block, as in figure 5.

    Args:
        network: a DenseNet, of any kind that `connections` knows.
        through_norm: multiply each weight by |γ| of the batch norm between map and weight, which
            the paper does not. Then it is the weight given to a map of unit variance.

    Raises:
        UserError: it is no DenseNet.
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
    """How evenly readers spread their weight over their sources; means over readers.

    Attributes:
        evenness: entropy of a column, as shares of its sum, over that of equal shares: 1 if all
            sources have the same weight, 0 if one has it all.
        largest: weight of the strongest source over the mean of the column: 1 if all are equal, the
            number of sources if one has it all.
    """

    evenness: float
    largest: float


@dataclass(frozen=True)
class Claims:
    """The four observations of section 5 ("Feature Reuse") as numbers; None where there is nothing
    to observe. Compare with those of an untrained network: by chance alone they are near 1, 1, and
    `input_least_by_chance`.

    Attributes:
        layers: 1. all layers spread their weights over many sources. Layers of two and more sources.
        transitions: 2. so do the transitions.
        input_over_others: 3. the layers of blocks 2, 3, ... give the least weight to the block's
            input, which is the transition's output: its weight over the mean of the other sources,
            the mean over these layers.
        input_is_least: 3. the share of these layers, 0..1, whose weakest source it is.
        input_is_least_by_chance: the same if each source were the weakest equally often.
        late_over_early: 4. the classifier leans to late maps: the mean weight of the last third of
            its sources over that of the first third.
        lateness: 4. correlation (Pearson) of a source's weight in the classifier and its position,
            -1..1; 0 by chance.
    """

    layers: Spread | None
    transitions: Spread | None
    input_over_others: float | None
    input_is_least: float | None
    input_is_least_by_chance: float | None
    late_over_early: float | None
    lateness: float | None


def claims(reuse: list[BlockReuse]) -> Claims:
    """The observations of section 5 in numbers, of the blocks that `feature_reuse` gives."""
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
    """Entropy of weights (n,) as shares of their sum, over log n; n of 2 and more."""
    shares = column / column.sum()
    return float(-torch.xlogy(shares, shares).sum()) / math.log(len(shares))


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _lateness(column: Tensor) -> float | None:
    """Correlation of weights (n,) with their position; None of two sources or if all are equal."""
    if len(column) < 3 or bool(column.std() == 0):
        return None
    positions = torch.arange(len(column), dtype=column.dtype)
    return float(torch.corrcoef(torch.stack([positions, column]))[0, 1])
