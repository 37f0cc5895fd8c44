"""JSON documents, as commands print them and files hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from densenet_cli.plain_text import in_json


def json_document(value: Any) -> str:
    """A value as indented JSON and a newline, without control characters that a terminal would obey.

    Args:
        value: of mappings, lists, texts, numbers and None; numbers that are not finite become null.
    """
    return in_json(json.dumps(finite(value), indent=2, ensure_ascii=False)) + "\n"


def finite(value: Any) -> Any:
    """The value with NaN and infinities replaced by null, since JSON cannot express them."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
