"""The lines of a head, to be changed by name: everything that is not named stays, byte for byte and in its order.

Names are compared in lower case; what is added is written so, as Envoy does.
"""

from __future__ import annotations

from collections.abc import Iterable

from kmesh.model.edits import AddedHeader, Appending
from kmesh.model.joined_headers import JOINED_HEADERS

__all__ = ["HeadLines"]


class HeadLines:
    """Of a head as the relay's strict reader took it: no folded lines, each ends with CRLF, the last one is empty."""

    def __init__(self, head: bytes) -> None:
        self.first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        """The request line or status line."""
        self._lines = [(line.partition(b":")[0].lower().decode("latin-1"), line) for line in lines]

    def __bytes__(self) -> bytes:
        return b"\r\n".join((self.first, *(line for _, line in self._lines), b"", b""))

    def values(self, name: str) -> tuple[bytes, ...]:
        return tuple(line.partition(b":")[2].strip(b" \t") for of, line in self._lines if of == name)

    def remove(self, names: Iterable[str]) -> None:
        gone = frozenset(names)
        self._lines = [(name, line) for name, line in self._lines if name not in gone]

    def add(self, name: str, value: bytes) -> None:
        """One line more; where Envoy keeps one value of the name, that one becomes longer."""
        before = [held for held in self.values(name) if held] if name in JOINED_HEADERS else []
        if before:
            self.set(name, b",".join((*before, value) if value else before))
        else:
            self._lines.append((name, name.encode() + b": " + value))

    def set(self, name: str, value: bytes) -> None:
        """The only line of its name, where the first one was, or at the end."""
        index = next((index for index, (of, _) in enumerate(self._lines) if of == name), len(self._lines))
        self.remove((name,))
        self._lines.insert(index, (name, name.encode() + b": " + value))

    def edit(self, added: Iterable[AddedHeader], removed: Iterable[str]) -> None:
        """What one holder asks for: what goes goes first, what comes depends on what is there before any comes.

        Source: source/common/router/header_parser.cc of Envoy, evaluateHeaders.
        """
        self.remove(removed)
        present = {name for name, _ in self._lines}
        later: list[AddedHeader] = []
        for header in added:
            match header.appending:
                case Appending.APPEND:
                    later.append(header)
                case Appending.ADD_IF_ABSENT if header.name not in present:
                    later.append(header)
                case Appending.OVERWRITE:
                    self.set(header.name, header.value.encode())
                case Appending.OVERWRITE_IF_EXISTS if header.name in present:
                    self.set(header.name, header.value.encode())
                case _:
                    pass
        for header in later:
            self.add(header.name, header.value.encode())
