"""Sends bytes as they are, each payload on a connection of its own.

`python -m tests.support.http_raw_client HOST PORT` reads a JSON list of payloads, lists of parts in base64, and
writes a JSON list of what came back for each.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Sequence

from tests.support.sandbox import Sandbox

__all__ = ["send_raw"]

_AT_ONCE = 32
_IDLE_S = 0.3
"""Without an answer or its end for so long, there is none."""
_MORE_S = 0.05
"""Behind an answer, likewise."""
_BETWEEN_S = 0.003
_TIMEOUT_S = 120.0


def send_raw(
    sandbox: Sandbox, address: tuple[str, int], payloads: Sequence[Sequence[bytes]], *, enrolled: bool = True
) -> list[bytes]:
    """What came back for each payload, whose parts are sends of their own."""
    command = [sys.executable, "-m", "tests.support.http_raw_client", address[0], str(address[1])]
    process = sandbox.spawn(command, enrolled=enrolled, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    encoded = [[base64.b64encode(part).decode() for part in payload] for payload in payloads]
    try:
        out, _ = process.communicate(json.dumps(encoded), timeout=_TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0
    return [base64.b64decode(received) for received in json.loads(out)]


async def _exchange(address: tuple[str, int], payload: list[str], turn: asyncio.Semaphore) -> str:
    async with turn:
        received = b""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*address)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for part in payload:
                    writer.write(base64.b64decode(part))
                    await asyncio.wait_for(writer.drain(), 5)
                    await asyncio.sleep(_BETWEEN_S)
                while part := await asyncio.wait_for(reader.read(65536), _MORE_S if received else _IDLE_S):
                    received += part
            except TimeoutError:
                pass
            finally:
                writer.close()
        return base64.b64encode(received).decode()


async def _main() -> None:
    address, turn = (sys.argv[1], int(sys.argv[2])), asyncio.Semaphore(_AT_ONCE)
    exchanges = [_exchange(address, payload, turn) for payload in json.load(sys.stdin)]
    json.dump(await asyncio.gather(*exchanges), sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
