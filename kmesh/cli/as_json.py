"""API messages as JSON: proto field names, enum names in lower case, times in ISO 8601, every integer a number."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import betterproto2

__all__ = ["print_json", "to_plain"]


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def to_plain(value: Any) -> Any:
    """Messages as dicts with every field, absent ones null."""
    match value:
        case _ if is_dataclass(value):
            return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
        case list():
            return [to_plain(item) for item in value]
        case betterproto2.Enum():
            return (value.name or str(value.value)).lower()
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case _:
            return value
