"""A server that notes every request that reaches it, as servers of one persuasion or another would read it.

What is no request in their eyes ends the connection with 400. Servers differ in what they let pass: a proxy that
frames a message otherwise than the server behind it lets requests through that it never saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Self

__all__ = ["Persuasion", "Recorder", "Seen"]


class Persuasion(Enum):
    """How a server reads what RFC 9112 tells it to refuse."""

    STRICT = "strict"
    LENGTH_FIRST = "Content-Length wins over Transfer-Encoding, and its leading digits count"
    CHUNKED_ANYWHERE = "Transfer-Encoding that says chunked anywhere is chunked, with blanks before the colon too"
    LAST_LENGTH = "the last Content-Length wins"
    BARE_LINES = "a bare LF ends a line"


@dataclass(frozen=True, slots=True)
class Seen:
    method: bytes
    target: bytes
    host: tuple[bytes, ...]
    body: bytes


_LINE = re.compile(rb"([A-Za-z]+) ([^ ]*) HTTP/1\.[01]")
_DIGITS = re.compile(rb"[0-9]+")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_MAX_BODY = 1 << 20


class Recorder:
    """Context manager, a thread with servers on 127.0.0.1. `seen` counts what has come, over all of them."""

    def __init__(self, persuasion: Persuasion) -> None:
        self.persuasion = persuasion
        self.seen: Counter[Seen] = Counter()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: tuple[str, int] = self._socket.getsockname()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(ready),))
        self._thread.start()
        ready.result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def take(self) -> Counter[Seen]:
        """What has come since the last time."""
        seen, self.seen = self.seen, Counter()
        return seen

    async def _run(self, ready: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, sock=self._socket)
        ready.set_result(None)
        await self._stop.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                try:
                    seen = await self._read(reader)
                except _NoRequest:
                    writer.write(_REFUSED)
                    break
                self.seen[seen] += 1
                writer.write(_ANSWER)
                await writer.drain()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        lines = await self._read_head(reader)
        start = _LINE.fullmatch(lines[0])
        if not start:
            raise _NoRequest
        headers = [_split(line, self.persuasion) for line in lines[1:]]
        body = await self._read_body(reader, headers)
        hosts = tuple(value for name, value in headers if name == b"host")
        return Seen(start[1], start[2], hosts, body)

    async def _read_head(self, reader: asyncio.StreamReader) -> list[bytes]:
        """Raises: EOFError, ValueError for a line over asyncio's bound, 64 KiB."""
        lines: list[bytes] = []
        while True:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            if not line.endswith(b"\r\n") and self.persuasion is not Persuasion.BARE_LINES:
                raise _NoRequest
            line = line.rstrip(b"\r\n")
            if line:
                lines.append(line)
            elif lines:
                return lines

    async def _read_body(self, reader: asyncio.StreamReader, headers: list[tuple[bytes, bytes]]) -> bytes:
        lengths = [value for name, value in headers if name == b"content-length"]
        encodings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        is_strict = self.persuasion in (Persuasion.STRICT, Persuasion.BARE_LINES)
        if is_strict and ((lengths and encodings) or len(set(lengths)) > 1):
            raise _NoRequest
        if any(self._is_chunked(value) for value in encodings) and not (
            lengths and self.persuasion is Persuasion.LENGTH_FIRST
        ):
            return await self._read_chunks(reader)
        if encodings and is_strict:
            raise _NoRequest
        return await reader.readexactly(self._read_length(lengths)) if lengths else b""

    def _is_chunked(self, value: bytes) -> bool:
        return b"chunked" in value if self.persuasion is Persuasion.CHUNKED_ANYWHERE else value == b"chunked"

    def _read_length(self, lengths: list[bytes]) -> int:
        value = lengths[-1 if self.persuasion is Persuasion.LAST_LENGTH else 0]
        read = _DIGITS.match if self.persuasion is Persuasion.LENGTH_FIRST else _DIGITS.fullmatch
        found = read(value.lstrip(b"+"))
        if not found or int(found[0]) > _MAX_BODY:
            raise _NoRequest
        return int(found[0])

    async def _read_chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while True:
            line = await reader.readuntil(b"\n")
            size = int(line.split(b";")[0].strip(), 16)
            if not 0 <= size <= _MAX_BODY:
                raise _NoRequest
            if not size:
                break
            body += await reader.readexactly(size)
            await reader.readuntil(b"\n")
        while (await reader.readuntil(b"\n")).strip():
            pass
        return body


class _NoRequest(Exception):
    pass


def _split(line: bytes, persuasion: Persuasion) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if persuasion is Persuasion.CHUNKED_ANYWHERE:
        name = name.rstrip(b" \t")
    if not colon or not name or name != name.strip():
        raise _NoRequest
    return name.lower(), value.strip(b" \t\x0b\x0c")
