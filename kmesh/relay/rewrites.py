"""What a route makes of a request's head before it goes on, and of the head of its answer: functions of bytes.

The order is Envoy's: headers by each holder in turn, then the host, then the path. So are the marks of what was
there before, x-envoy-original-host and x-envoy-original-path.
Source: source/common/router/config_impl.cc of Envoy, finalizeRequestHeaders.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kmesh.compiler.semantics import Subject, rewrite_prefix
from kmesh.model.edits import NO_EDITS, NO_REWRITE, HeaderEdits, Rewrite
from kmesh.model.match import PathMatch
from kmesh.model.route import Route, RouteConfiguration, VirtualHost
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.head_lines import HeadLines
from kmesh.relay.replace_regex import replace_regex

__all__ = ["HeadRewrite", "UnsafePath", "answer_rewrite", "edit_reply", "list_edits", "request_rewrite"]

HeadRewrite = Callable[[bytes], bytes]
"""A head to the head that is sent in its place, both with the empty line that ends them."""

_TARGET = re.compile(rb"[!-~\x80-\xff]+")


class UnsafePath(Exception):
    """A rewritten path that would end its request line too early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RequestRewrite:
    subject: Subject
    cluster: WeightedCluster | None
    edits: tuple[HeaderEdits, ...]
    rewrite: Rewrite
    path: bytes | None
    """As it is rewritten, where it is."""

    def __call__(self, head: bytes) -> bytes:
        lines = HeadLines(head)
        lines.set("host", self.subject.authority)
        if self.cluster:
            lines.edit(self.cluster.edits.request_added, self.cluster.edits.request_removed)
            if self.cluster.host:
                lines.set("host", self.cluster.host.encode())
        for edits in self.edits:
            lines.edit(edits.request_added, edits.request_removed)
        self._rewrite_host(lines)
        if self.path is not None:
            lines.set("x-envoy-original-path", self.subject.path)
        method, _, version = lines.first.split(b" ")
        lines.first = b" ".join((method, self.path or self.subject.path, version))
        return bytes(lines)

    def _rewrite_host(self, lines: HeadLines) -> None:
        host = self._find_host(lines)
        if not host:
            return
        before = lines.values("host")[0]
        if self.rewrite.appends_forwarded_host and before:
            forwarded = [part.strip() for part in b",".join(lines.values("x-forwarded-host")).split(b",")]
            if forwarded[-1] != before:
                lines.add("x-forwarded-host", before)
        lines.set("x-envoy-original-host", before)
        lines.set("host", host)

    def _find_host(self, lines: HeadLines) -> bytes:
        """b"" where it stays."""
        rewrite = self.rewrite
        if rewrite.host:
            return rewrite.host.encode()
        if rewrite.host_header:
            return b"".join(lines.values(rewrite.host_header)[:1])
        return replace_regex(rewrite.host_regex, self.subject.bare_path) if rewrite.host_regex else b""


@dataclass(frozen=True, slots=True)
class _AnswerRewrite:
    edits: tuple[HeaderEdits, ...]

    def __call__(self, head: bytes) -> bytes:
        lines = HeadLines(head)
        for edits in self.edits:
            lines.edit(edits.answer_added, edits.answer_removed)
        return bytes(lines)


def list_edits(config: RouteConfiguration, host: VirtualHost, route: Route) -> tuple[HeaderEdits, ...]:
    """In the order in which they are made; those that change nothing left out."""
    edits = [held for held in (route.edits, host.edits, config.edits) if held != NO_EDITS]
    return tuple(reversed(edits)) if config.most_specific_edits_win else tuple(edits)


def request_rewrite(
    subject: Subject,
    is_as_written: bool,
    route: Route,
    cluster: WeightedCluster | None,
    edits: tuple[HeaderEdits, ...],
) -> HeadRewrite | None:
    """None where the head goes on as it came. `is_as_written`: nothing was normalised. Raises: UnsafePath."""
    path = _rewrite_path(subject.path, route.match.path, route.rewrite)
    has_edits = any(held.request_added or held.request_removed for held in edits)
    is_of_cluster = cluster is not None and (cluster.host or cluster.edits != NO_EDITS)
    if is_as_written and route.rewrite == NO_REWRITE and not (has_edits or is_of_cluster):
        return None
    if path is not None and not _TARGET.fullmatch(path):
        raise UnsafePath
    return _RequestRewrite(subject=subject, cluster=cluster, edits=edits, rewrite=route.rewrite, path=path)


def answer_rewrite(cluster: WeightedCluster | None, edits: tuple[HeaderEdits, ...]) -> HeadRewrite | None:
    """None where the head goes on as it came."""
    edits = (cluster.edits, *edits) if cluster else edits
    edits = tuple(held for held in edits if held.answer_added or held.answer_removed)
    return _AnswerRewrite(edits) if edits else None


def edit_reply(
    headers: tuple[tuple[bytes, bytes], ...], edits: tuple[HeaderEdits, ...]
) -> tuple[tuple[bytes, bytes], ...]:
    """Of an answer that is made here."""
    head = b"".join(b"\r\n%s: %s" % header for header in headers) + b"\r\n\r\n"
    rewritten = _AnswerRewrite(edits)(head).removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    return tuple((name, value) for name, _, value in (line.partition(b": ") for line in rewritten))


def _rewrite_path(path: bytes, matched: PathMatch, rewrite: Rewrite) -> bytes | None:
    """None where it stays: there is no rewrite, or it leaves nothing."""
    bare, mark, query = path.partition(b"?")
    new: bytes | None = None
    if rewrite.prefix:
        new = rewrite_prefix(bare, matched, rewrite.prefix.encode())
    elif rewrite.path_regex:
        new = replace_regex(rewrite.path_regex, bare)
    return new + mark + query if new else None
