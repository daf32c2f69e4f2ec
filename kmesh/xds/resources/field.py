"""Where in a resource something is wrong: proto paths, and the error that carries one up to the seam.

Paths and reasons are bounded, whatever a control plane puts into names and keys.
"""

from __future__ import annotations

__all__ = ["FieldInvalid", "at", "clip", "under"]

_SHOWN = 80


class FieldInvalid(Exception):
    """A field breaks a rule. Never leaves this package: `decode_resource` makes a ResourceInvalid of it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def clip(text: str) -> str:
    """Quoted for a person, and short."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}… ({len(text)} characters)"


def under(path: str, name: str) -> str:
    """The path of field `name` of the message at `path`."""
    return f"{path}.{name}" if path else name


def at(path: str, key: int | str | bool) -> str:
    """The path of one element of the field at `path`: by index, or by the key of a map."""
    return f"{path}[{clip(key) if isinstance(key, str) else key}]"
