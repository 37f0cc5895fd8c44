"""Measured quantities as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(number: float) -> str:
    """Three digits and a letter for thousands: 960, 71.7k, 769k, 7.98M, 288M, 9.3G, 2.4T."""
    return _scaled(number, ("", "k", "M", "G", "T"))


def magnitude(number: float) -> str:
    """A round number of any size: 0.01, 3, 1000, and beyond 10⁴, 3·10⁶, 10⁻³."""
    if number == 0 or 0.01 <= abs(number) < 10_000:
        return f"{number:g}"
    digits, power = f"{number:.2e}".split("e")
    factor = f"{float(digits):g}"
    return ("" if factor == "1" else f"{factor}·") + "10" + str(int(power)).translate(SUPERSCRIPTS)


def memory(number: float) -> str:
    """Bytes in powers of 1,000: 960 B, 2.82 GB."""
    return _scaled(number, (" B", " kB", " MB", " GB", " TB"))


def _scaled(number: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if abs(number) < 999.5:
            return _three_digits(number) + unit
        number /= 1000
    return _three_digits(number) + units[-1]


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:.0f}"


def percent(mean: float, std: float | None = None) -> str:
    """An error in percent, with its standard deviation where there is one: 4.51 ± 0.12."""
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def difference(number: float) -> str:
    """A difference of errors, in points, with its sign: +0.21, −0.05."""
    return f"{number:+.2f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 9.4 s, 3:07 min, 1:02:03 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
