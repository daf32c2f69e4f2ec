"""Real HTTP clients in the enrolled cgroup, each asked for the same requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.sandbox import Sandbox

__all__ = ["CLIENTS", "Answer", "Ask", "ask_with", "compile_java"]

_HERE = Path(__file__).parent
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    method: str = "GET"
    path: str
    header: str = ""
    """ "name: value", or nothing."""
    body: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    server: str
    """x-server, "None" without it."""
    body: str


def _python(library: str) -> tuple[str, ...]:
    return sys.executable, "-m", "tests.support.http_client_libraries", library, "BASE"


CLIENTS: Mapping[str, tuple[str, ...]] = {
    **{library: _python(library) for library in ("http.client", "requests", "httpx", "aiohttp")},
    "node": ("node", str(_HERE / "http_client.js"), "BASE"),
    "node, a connection each": ("node", str(_HERE / "http_client.js"), "BASE", "close"),
    "java": ("java", "-XX:TieredStopAtLevel=1", "-cp", "CLASSES", "HttpClientProgram", "BASE", "HTTP_1_1"),
    "java, asking for HTTP/2": ("java", "-XX:TieredStopAtLevel=1", "-cp", "CLASSES", "HttpClientProgram", "BASE"),
}
"""Command lines; BASE and CLASSES stand for what ask_with() is given."""


def compile_java(folder: Path) -> None:
    """By Eclipse's compiler, which needs no more of Java than running does."""
    command = ["ecj", "-17", "-proc:none", "-d", str(folder), str(_HERE / "HttpClientProgram.java")]
    subprocess.run(command, check=True, timeout=_TIMEOUT_S, capture_output=True)


def ask_with(sandbox: Sandbox, client: str, base: str, asks: Sequence[Ask]) -> list[Answer]:
    """All of them in order, on one connection where the client keeps one. Raises: AssertionError."""
    stand_for = {"BASE": base, "CLASSES": str(sandbox.folder)}
    command = [stand_for.get(word, word) for word in CLIENTS[client]]
    process = sandbox.spawn(
        command, enrolled=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines = "".join(f"{ask.method}\t{ask.path}\t{ask.header}\t{ask.body}\n" for ask in asks)
    try:
        out, err = process.communicate(lines, timeout=_TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0, f"{command} exited {process.returncode}\n{out}\n{err}"
    answers = (line.split("\t") for line in out.splitlines())
    return [Answer(int(status), server, body) for status, server, body in answers]
