"""A request as it is written, and as it is when its virtual host and route are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Reply", "Request", "Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of a well-formed HTTP/1.1 request that came in plaintext."""

    method: bytes = b"GET"
    target: bytes = b"/"
    """In origin, absolute or asterisk form."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """(name, value) in the order of the wire, values without surrounding white space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What conditions look at."""

    method: bytes
    authority: bytes
    """As the client wrote it, but for what Normalization cuts off."""
    path: bytes
    """With its query."""
    scheme: bytes = b"http"
    headers: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """Values by name in lower case, at least one each. Not Host."""

    @property
    def bare_path(self) -> bytes:
        """Without the query."""
        return self.path.partition(b"?")[0]

    def values(self, name: str) -> tuple[bytes, ...]:
        """Of a header, or a pseudo-header by its name with a colon; empty when there is none."""
        match name:
            case ":method":
                return (self.method,)
            case ":authority":
                return (self.authority,)
            case ":path":
                return (self.path,)
            case ":scheme":
                return (self.scheme,)
            case _:
                return self.headers.get(name, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that goes to no cluster."""

    status: int
    location: bytes | None = None
    body: bytes = b""
    """Text."""
