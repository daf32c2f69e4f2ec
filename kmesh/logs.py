"""Logs on standard error: constant event names with fields, as lines for people or as JSON for machines.

Callers write `logger.info("snapshot_applied", extra={"clusters": 12})` with `logging.getLogger(__name__)`. The
message is the event's name and `extra` holds its fields; logging reserves the names of its own record's attributes
("name", "args", "module", "process" and so on), so those cannot be fields. Any other library's record is an event
whose name is its whole message.

    2026-03-01T10:00:00.123Z info  snapshot_applied clusters=12 digest=9f1c logger=kmesh.bridge
    {"time": "2026-03-01T10:00:00.123Z", "level": "info", "event": "snapshot_applied", "logger": ..., "clusters": 12}

A record is one line, whatever its fields hold; in text an exception's traceback follows, indented. No field can
break the log: what JSON cannot say is shown by repr, and a field named like a secret is never shown.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["JsonFormatter", "TextFormatter", "configure_logging"]

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CORE = ("time", "level", "event", "logger", "exception")
_SECRET = re.compile(r"(^|_)(token|password|secret|authorization|private_key)$", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BARE = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f]+")
_FIELD_LIMIT = 2000
"""Characters of one field in a line of text: an xDS name may have 64 KiB."""


def configure_logging(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Send all records to `stream` (standard error when None), replacing what was configured before.

    `level` (debug, info, warning, error) governs kmesh's own events; other libraries log warnings and errors only.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("kmesh").setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """Time (UTC), level, event, then key=value; values are quoted when they hold more than one plain word."""

    def format(self, record: logging.LogRecord) -> str:
        fields = [f"{key}={_as_word(value)}" for key, value in _fields(record).items()]
        head = [_time(record), f"{record.levelname.lower():<7}", _escape(_event(record))]
        line = " ".join([*head, *fields, f"logger={record.name}"])
        if record.exc_info:
            line += "\n" + _indent(self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, event and logger, then the fields, then the traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        out: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": _event(record),
            "logger": record.name,
        }
        out |= {f"{key}_" if key in _CORE else key: value for key, value in _fields(record).items()}
        if record.exc_info:
            out["exception"] = self.formatException(record.exc_info)
        return _dump(out)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the caller's arguments do not fit its message: show both
        return f"{record.msg} {_safe_repr(record.args)}"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: "[secret]" if _SECRET.search(key) else value
        for key, value in vars(record).items()
        if key not in _RESERVED
    }


def _as_word(value: object) -> str:
    text = value if isinstance(value, str) else _dump(value) if _is_plain(value) else _safe_str(value)
    if len(text) > _FIELD_LIMIT:
        text = f"{text[:_FIELD_LIMIT]}… ({len(text)} characters)"
    return text if _BARE.fullmatch(text) else _escape(json.dumps(text, ensure_ascii=False))


def _escape(text: str) -> str:
    """`text` with what would end the line or steer a terminal made visible."""
    return _CONTROL.sub(lambda control: f"\\u{ord(control[0]):04x}", text)


def _is_plain(value: object) -> bool:
    """Whether JSON's spelling of it is the readable one."""
    return value is None or isinstance(value, bool | int | float | list | tuple | Mapping)


def _dump(value: object) -> str:
    try:
        return json.dumps(_plain(value), ensure_ascii=False)
    except Exception:  # a container that refers to itself, or whose iteration fails
        return json.dumps(_safe_repr(value))


def _plain(value: object) -> object:
    """`value` in the types JSON has, secrets inside it left out."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(k): "[secret]" if _SECRET.search(str(k)) else _plain(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return _safe_str(value)


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a field must not break the log
        return _safe_repr(value)


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} that has no repr>"


def _indent(text: str) -> str:
    return "\n".join("    " + _escape(line) for line in text.splitlines())
