"""The error_detail of a NACK: every bad resource by name, within a bound."""

from __future__ import annotations

from collections.abc import Sequence

from google.rpc import code_pb2, status_pb2

from kmesh.errors import ResourceInvalid

__all__ = ["MAX_MESSAGE_BYTES", "build_error_detail"]

MAX_MESSAGE_BYTES = 8192
_MAX_LINE_BYTES = 1024
_TAIL_BYTES = len("\nand 18446744073709551615 more")


def build_error_detail(errors: Sequence[ResourceInvalid]) -> status_pb2.Status:
    """One line for each error; those beyond the bound are counted. `errors` is not empty."""
    lines: list[str] = []
    room = MAX_MESSAGE_BYTES - _TAIL_BYTES
    for error in errors:
        line = _clip(str(error))
        room -= len(line.encode()) + 1
        if room < 0:
            lines.append(f"and {len(errors) - len(lines)} more")
            break
        lines.append(line)
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="\n".join(lines))


def _clip(text: str) -> str:
    """Valid UTF-8 of bounded size: a decoder's message may hold lone surrogates, which protobuf refuses."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _MAX_LINE_BYTES:
        return raw.decode()
    return raw[: _MAX_LINE_BYTES - 3].decode("utf-8", "ignore") + "…"
