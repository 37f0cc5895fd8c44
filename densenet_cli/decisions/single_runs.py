"""Two single runs that were tested on the same images: which errors do they not share?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Discordance:
    """McNemar's exact test (1947). It covers the noise of the test images, not that of training.

    Args:
        only_ours: images that only our run gets wrong.
        only_baseline: images that only the baseline's run gets wrong.
        p: of both runs being wrong equally often, over images like these.
    """

    only_ours: int
    only_baseline: int
    p: float


def mcnemar(ours: Sequence[bool], baseline: Sequence[bool]) -> Discordance:
    """Compare two runs image by image.

    Args:
        ours: whether our run classified each image correctly.
        baseline: the same of the baseline's run, in the same order of images.

    Raises:
        ValueError: if the numbers of images differ.
    """
    from scipy.stats import binomtest

    pairs = list(zip(ours, baseline, strict=True))
    only_ours = sum(theirs and not own for own, theirs in pairs)
    only_baseline = sum(own and not theirs for own, theirs in pairs)
    differing = only_ours + only_baseline
    p = float(binomtest(only_ours, differing).pvalue) if differing else 1.0
    return Discordance(only_ours, only_baseline, p)
