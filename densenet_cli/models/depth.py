"""Depth rules: the n of a network whose depth is step·n + extra."""

from __future__ import annotations

from densenet_cli.options import OptionError, whole_number


def repeats(depth: int, step: int, extra: int, family: str) -> int:
    """The n, 1 or more, for which depth = step·n + extra.

    Args:
        depth: number of convolutions and linear layers, as the family's paper counts them.
        step: layers that are added with each n.
        extra: layers besides those.
        family: the family's name for the message ("a DenseNet with bottleneck layers").

    Raises:
        OptionError: there is no such n; the message names the nearest valid depths.
    """
    n, remainder = divmod(whole_number("depth", depth, example=step + extra) - extra, step)
    if remainder or n < 1:
        lower = step * max(n, 1) + extra
        upper = lower + step
        rule = f"must be {step}n + {extra} for {family}, such as {lower} or {upper}"
        raise OptionError("depth", depth, rule, upper if upper - depth < depth - lower else lower)
    return n
