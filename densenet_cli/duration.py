"""How long something takes, as a person reads it."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 9.4 s, 3:07 min, 1:02:03 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
