"""What is changed in the heads of a request and its answer on their way: headers, host and path.

Source: envoy/config/core/v3/base.proto, HeaderValueOption; envoy/config/route/v3/route_components.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["NO_EDITS", "NO_REWRITE", "AddedHeader", "Appending", "HeaderEdits", "RegexRewrite", "Rewrite"]


class Appending(Enum):
    """HeaderValueOption.HeaderAppendAction: what is done where there may be such a header already."""

    APPEND = "APPEND_IF_EXISTS_OR_ADD"
    """One line more, whatever is there."""
    ADD_IF_ABSENT = "ADD_IF_ABSENT"
    OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
    OVERWRITE_IF_EXISTS = "OVERWRITE_IF_EXISTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedHeader:
    name: str
    """Lower case."""
    value: str
    """As it is sent: nothing in it is still to be filled in."""
    appending: Appending = Appending.APPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdits:
    """Of one holder (route, virtual host, ...). What is removed is removed first; names in lower case."""

    request_added: tuple[AddedHeader, ...] = ()
    request_removed: tuple[str, ...] = ()
    answer_added: tuple[AddedHeader, ...] = ()
    answer_removed: tuple[str, ...] = ()


NO_EDITS = HeaderEdits()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    r"""Every match of `pattern` (RE2) in a path without its query becomes `substitution`, where \1 is a group."""

    pattern: str
    substitution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Of a route's requests, in this order: the host (one of three ways at most), then the path (one of two)."""

    host: str = ""
    host_header: str = ""
    """Lower case: the host is the first value of this header; without one it stays."""
    host_regex: RegexRewrite | None = None
    """The host is what this makes of the path."""
    appends_forwarded_host: bool = False
    """append_x_forwarded_host: a host that is replaced is added to x-forwarded-host."""
    prefix: str = ""
    """Replaces what the route's path matched; all of it, for a path or regular expression."""
    path_regex: RegexRewrite | None = None


NO_REWRITE = Rewrite()
