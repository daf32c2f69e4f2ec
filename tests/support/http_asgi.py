"""The server of tests/support/http_servers.py as an ASGI application, for uvicorn. Its name is in KMESH_SERVER."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["application"]

_NAME = os.environ.get("KMESH_SERVER", "").encode()


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    body, has_more = b"", True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    is_chunked = scope["path"].endswith("/chunked")
    answer = body + _NAME if is_chunked else body if scope["path"].endswith("/echo") else _NAME
    headers = [(b"x-server", _NAME)]
    if not is_chunked:
        headers.append((b"content-length", str(len(answer)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
