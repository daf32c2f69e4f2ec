"""The relay's own Unix socket: the bridge asks for status, and says that the configuration has changed.

A connection carries one request and one response, each a length (4 bytes, little endian) and that much msgpack:

    "status"   {"ok": {...}}: plain values, as the relay's `status` gives them
    "reload"   {"ok": None} once the configuration is in force; {"error": why} when it is not, and the old one stays

A relay that died leaves its listener to its keeper, where requests wait until the successor ends that; so a request
has a limit of time, and the successor puts a new socket in the place of the old one without asking it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgpack

from kmesh.errors import KmeshError

__all__ = ["CONTROL_SOCKET", "Controlled", "RelayUnreachable", "fetch_status", "reload_relay", "serve_control"]

CONTROL_SOCKET = "control.sock"
"""In the runtime directory."""
_LENGTH = struct.Struct("<I")
_MAX_REQUEST = 64
_MAX_RESPONSE = 64 * 1024 * 1024
_TIMEOUT_S = 10.0


class RelayUnreachable(KmeshError):
    """The relay does not answer, or could not do what it was asked; the message says why."""


class Controlled(Protocol):
    def status(self) -> Mapping[str, object]:
        """Of plain values, that msgpack can say."""

    async def reload(self) -> None:
        """Read the configuration again. An exception leaves the old one in force."""


@asynccontextmanager
async def serve_control(relay: Controlled, runtime_dir: Path) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                request = await _receive(reader, _MAX_REQUEST)
                _send(writer, await _respond(relay, request))
                await writer.drain()
        except (OSError, EOFError, ValueError, TimeoutError):
            pass  # whoever asked is gone, or speaks something else
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, sock=_listen(runtime_dir / CONTROL_SOCKET))
    async with server:
        yield


async def fetch_status(runtime_dir: Path, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
    """Raises: RelayUnreachable."""
    status: dict[str, Any] = await _ask(runtime_dir, "status", timeout_s)
    return status


async def reload_relay(runtime_dir: Path, timeout_s: float = _TIMEOUT_S) -> None:
    """Raises: RelayUnreachable, also when it refuses the configuration."""
    await _ask(runtime_dir, "reload", timeout_s)


async def _respond(relay: Controlled, request: object) -> dict[str, object]:
    try:
        if request == "status":
            return {"ok": dict(relay.status())}
        if request == "reload":
            await relay.reload()
            return {"ok": None}
    except (KmeshError, OSError) as error:
        return {"error": str(error)}
    return {"error": f"no such request: {request!r}"}


async def _ask(runtime_dir: Path, request: str, timeout_s: float) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(runtime_dir / CONTROL_SOCKET)
            try:
                _send(writer, request)
                response = await _receive(reader, _MAX_RESPONSE)
            finally:
                writer.close()
    except TimeoutError:
        raise RelayUnreachable(f"the relay has not answered for {timeout_s:g} s") from None
    except (OSError, EOFError, ValueError) as error:
        raise RelayUnreachable(f"the relay does not answer ({error})") from None
    if "error" in response:
        raise RelayUnreachable(response["error"])
    return response["ok"]


def _send(writer: asyncio.StreamWriter, message: object) -> None:
    body: bytes = msgpack.packb(message)
    writer.write(_LENGTH.pack(len(body)) + body)


async def _receive(reader: asyncio.StreamReader, limit: int) -> Any:
    """Raises: EOFError, ValueError for what is no message."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > limit:
        raise ValueError(f"a message of {length} bytes")
    return msgpack.unpackb(await reader.readexactly(length))


def _listen(path: Path) -> socket.socket:
    """In the place of what a predecessor left; nobody but root can connect before its mode is set."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(str(partial))
    partial.chmod(0o600)
    listener.listen()
    partial.rename(path)
    return listener
