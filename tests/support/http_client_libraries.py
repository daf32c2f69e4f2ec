"""HTTP clients of Python: `python -m tests.support.http_client_libraries LIBRARY BASE`, one connection for all.

A request is a line of standard input: method, path, "name: value" or nothing, and body, with tabs between. An answer
is a line of standard output: status, x-server, and body.
"""

from __future__ import annotations

import asyncio
import http.client
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests

__all__ = ["LIBRARIES"]

Request = tuple[str, str, dict[str, str], bytes | None]
_TIMEOUT_S = 10


def _read_requests() -> Iterator[Request]:
    for line in sys.stdin:
        method, path, header, body = line.rstrip("\n").split("\t")
        name, _, value = header.partition(": ")
        yield method, path, {name: value} if name else {}, body.encode() if body else None


def _tell(status: int, server: str | None, body: bytes) -> None:
    print(status, server, body.decode(), sep="\t")


def _http_client(base: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=_TIMEOUT_S)
    for method, path, headers, body in _read_requests():
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        _tell(answer.status, answer.getheader("x-server"), answer.read())


def _requests(base: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for method, path, headers, body in _read_requests():
            answer = session.request(method, base + path, headers=headers, data=body, timeout=_TIMEOUT_S)
            _tell(answer.status_code, answer.headers.get("x-server"), answer.content)


def _httpx(base: str) -> None:
    with httpx.Client(base_url=base, trust_env=False, timeout=_TIMEOUT_S) as client:
        for method, path, headers, body in _read_requests():
            answer = client.request(method, path, headers=headers, content=body)
            _tell(answer.status_code, answer.headers.get("x-server"), answer.content)


def _aiohttp(base: str) -> None:
    asyncio.run(_ask_by_aiohttp(base))


async def _ask_by_aiohttp(base: str) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        for method, path, headers, body in _read_requests():
            async with session.request(method, base + path, headers=headers, data=body) as answer:
                _tell(answer.status, answer.headers.get("x-server"), await answer.read())


LIBRARIES: dict[str, Callable[[str], None]] = {
    "http.client": _http_client,
    "requests": _requests,
    "httpx": _httpx,
    "aiohttp": _aiohttp,
}

if __name__ == "__main__":
    LIBRARIES[sys.argv[1]](sys.argv[2])
