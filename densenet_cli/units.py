"""Measured quantities as text for people: 7.98M, 2.82 GB, 4.51 ± 0.12, 1:02:03 h."""

from __future__ import annotations

from collections.abc import Sequence

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(number: float) -> str:
    """Three digits and a letter for powers of 1,000: 960, 71.7k, 769k, 7.98M, 288M, 9.3G, 2.4T, 1P."""
    return _scaled(number, ("", "k", "M", "G", "T", "P", "E"))


def magnitude(number: float) -> str:
    """A round number: 0.01, 3, 1000; smaller and larger ones as powers of ten: 10⁻³, 10⁴, 3·10⁶."""
    if number == 0 or 0.01 <= abs(number) < 10_000:
        return f"{number:g}"
    digits, power = f"{number:.2e}".split("e")
    factor = f"{float(digits):g}"
    return ("" if factor == "1" else f"{factor}·") + "10" + str(int(power)).translate(SUPERSCRIPTS)


def typed_number(number: float) -> str:
    """A number as one types it: 0.5, 300, 1e15, 6.1e13."""
    if number < 1_000_000:
        return f"{number:.12g}"
    digits, power = f"{number:.12e}".split("e")
    return f"{float(digits):.12g}e{int(power)}"


def memory(number: float) -> str:
    """Bytes in powers of 1,000: 960 B, 2.82 GB."""
    return _scaled(number, (" B", " kB", " MB", " GB", " TB"))


def energy(joules: float) -> str:
    """Joules in powers of 1,000: 960 J, 2.82 MJ."""
    return _scaled(joules, (" J", " kJ", " MJ", " GJ"))


def _scaled(number: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if abs(number) < 999.5:
            return _three_digits(number) + unit
        number /= 1000
    return _three_digits(number) + units[-1]


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:.0f}"


def percent(mean: float, std: float | None = None) -> str:
    """An error in percent, with its standard deviation if there is one: 4.51 ± 0.12."""
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def auroc(error: float, std: float | None = None) -> str:
    """The mean AUROC of several labels, whose error is 100 % minus it: 0.8412 ± 0.0021."""
    text = f"{1 - error / 100:.4f}"
    return text if std is None else f"{text} ± {std / 100:.4f}"


def difference(number: float) -> str:
    """A difference between errors, in percentage points: +0.21, −0.05."""
    return f"{number:+.2f}".replace("-", "−")


def interval(low: float, high: float) -> str:
    """An interval of such differences: −0.90 to −0.14."""
    return f"{difference(low)} to {difference(high)}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours: 9.4 s, 3:07 min, 1:02:03 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
