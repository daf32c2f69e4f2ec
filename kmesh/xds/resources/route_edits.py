"""What routes, virtual hosts and configurations change in heads: headers, host and path; and what of it is not done.

Source: envoy/config/core/v3/base.proto, HeaderValueOption; what is invalid was tried on the real Envoy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kmesh.model.edits import NO_EDITS, NO_REWRITE, AddedHeader, Appending, HeaderEdits, RegexRewrite, Rewrite
from kmesh.model.route import Feature
from kmesh.model.route_features import FRAMING_HEADER, HEADER_FORMATTER, RAW_HEADER_VALUE
from kmesh.xds.resources.field import FieldInvalid, at, under

__all__ = ["decode_edits", "decode_regex_rewrite", "decode_rewrite", "features_of_edits"]

_ADDED = ("request_headers_to_add", "response_headers_to_add")
_REMOVED = ("request_headers_to_remove", "response_headers_to_remove")
_FRAMING = frozenset(
    (
        *("connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)
_PATH_REWRITES = frozenset(("prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite"))
_APPENDING = {
    0: Appending.APPEND,
    1: Appending.ADD_IF_ABSENT,
    2: Appending.OVERWRITE,
    3: Appending.OVERWRITE_IF_EXISTS,
}


def decode_edits(message: Any, path: str) -> HeaderEdits:
    """From a message that has the four fields. What `features_of_edits` names is left out."""
    edits = HeaderEdits(
        request_added=tuple(_decode_added(message, "request_headers_to_add", path)),
        request_removed=tuple(_decode_removed(message, "request_headers_to_remove", path)),
        answer_added=tuple(_decode_added(message, "response_headers_to_add", path)),
        answer_removed=tuple(_decode_removed(message, "response_headers_to_remove", path)),
    )
    return NO_EDITS if edits == NO_EDITS else edits


def features_of_edits(message: Any, path: str) -> Iterator[Feature]:
    """Values that are not text: with something for Envoy to fill in, or of bytes; and names that are not touched."""
    for name in _REMOVED:
        for index, key in enumerate(getattr(message, name)):
            if key.lower() in _FRAMING:
                yield Feature(name=FRAMING_HEADER, path=at(under(path, name), index))
    for name in _ADDED:
        for index, option in enumerate(getattr(message, name)):
            where = under(at(under(path, name), index), "header")
            if option.header.key.lower() in _FRAMING:
                yield Feature(name=FRAMING_HEADER, path=f"{where}.key")
            if option.header.raw_value:
                yield Feature(name=RAW_HEADER_VALUE, path=f"{where}.raw_value")
            if _has_formatter(option.header.value):
                yield Feature(name=HEADER_FORMATTER, path=f"{where}.value")


def decode_rewrite(action: Any, path: str) -> Rewrite:
    """From a RouteAction."""
    ways = [known.name for known, _ in action.ListFields() if known.name in _PATH_REWRITES]
    if len(ways) > 1:
        raise FieldInvalid(under(path, ways[1]), f"cannot be beside {ways[0]}")
    rewrite = Rewrite(
        host=action.host_rewrite_literal,
        host_header=action.host_rewrite_header.lower(),
        host_regex=decode_regex_rewrite(action, "host_rewrite_path_regex"),
        appends_forwarded_host=action.append_x_forwarded_host,
        prefix=action.prefix_rewrite,
        path_regex=decode_regex_rewrite(action, "regex_rewrite"),
    )
    return NO_REWRITE if rewrite == NO_REWRITE else rewrite


def decode_regex_rewrite(message: Any, name: str) -> RegexRewrite | None:
    """From a field of type RegexMatchAndSubstitute."""
    if not message.HasField(name):
        return None
    rewrite = getattr(message, name)
    return RegexRewrite(pattern=rewrite.pattern.regex, substitution=rewrite.substitution)


def _decode_added(message: Any, name: str, path: str) -> Iterator[AddedHeader]:
    for index, option in enumerate(getattr(message, name)):
        key, value = option.header.key.lower(), option.header.value
        where = under(at(under(path, name), index), "header.key")
        _check_name(key, where)
        is_appended = option.HasField("append")
        if is_appended and option.append_action:
            raise FieldInvalid(where, "has both append and append_action")
        if option.header.raw_value or _has_formatter(value) or not (value or option.keep_empty_value):
            continue
        appending = _APPENDING[option.append_action]
        if is_appended and not option.append.value:
            appending = Appending.OVERWRITE
        yield AddedHeader(name=key, value=value.replace("%%", "%"), appending=appending)


def _decode_removed(message: Any, name: str, path: str) -> Iterable[str]:
    for index, key in enumerate(getattr(message, name)):
        _check_name(key.lower(), at(under(path, name), index))
        yield key.lower()


def _check_name(key: str, path: str) -> None:
    if key.startswith(":") or key == "host":
        raise FieldInvalid(path, "may not be host, or begin with a colon")


def _has_formatter(value: str) -> bool:
    return "%" in value.replace("%%", "")
