"""Depth rules: in a family whose depth is step·n + extra, the n of a depth."""

from __future__ import annotations

from densenet_cli.options import OptionError, whole_number


def repeats(depth: int, step: int, extra: int, family: str) -> int:
    """The n, 1 or more, for which depth = step·n + extra.

    Args:
        depth: convolutions and linear layers counted by the family's paper.
        step: layers that one more n adds.
        extra: layers that every network of the family has.
        family: the family's name for the message ("a DenseNet with bottleneck layers").

    Raises:
        OptionError: no such n; the message names the two valid depths around this one.
    """
    n, remainder = divmod(whole_number("depth", depth, example=step + extra) - extra, step)
    if remainder or n < 1:
        lower = step * max(n, 1) + extra
        upper = lower + step
        rule = f"must be {step}n + {extra} for {family}, such as {lower} or {upper}"
        raise OptionError("depth", depth, rule, upper if upper - depth < depth - lower else lower)
    return n
