"""Logs: both formats, and no field that can break them."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import kmesh
from kmesh.logs import configure_logging

logger = logging.getLogger("kmesh.test")
TIME = "2026-03-01T10:00:00.123Z"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("kmesh")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], level, own_level = before
    root.setLevel(level)
    own.setLevel(own_level)


@pytest.fixture(autouse=True)
def _fixed_time() -> Iterator[None]:
    make = logging.getLogRecordFactory()

    def make_at_ten(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.created = 1772359200.123
        return record

    logging.setLogRecordFactory(make_at_ten)
    yield
    logging.setLogRecordFactory(make)


def log(log_format: str, fields: dict[str, object], level: str = "info") -> str:
    out = io.StringIO()
    configure_logging(log_format, level, out)
    logger.info("event_name", extra=fields)
    return out.getvalue()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class OnlyRepr:
    def __repr__(self) -> str:
        return "<OnlyRepr>"


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"clusters": 12, "digest": "9f1c"}, "clusters=12 digest=9f1c", id="plain"),
        pytest.param({"a": True, "b": None, "c": 1.5}, "a=true b=null c=1.5", id="scalars"),
        pytest.param({"a": "two words"}, 'a="two words"', id="space"),
        pytest.param({"a": ""}, 'a=""', id="empty"),
        pytest.param({"a": 'x\n2026 "fake" line'}, 'a="x\\n2026 \\"fake\\" line"', id="a new line cannot be forged"),
        pytest.param({"a": "\x1b[31m", "b": "\x9b"}, 'a="\\u001b[31m" b="\\u009b"', id="no terminal escapes"),
        pytest.param({"a": "outbound|80||b"}, "a=outbound|80||b", id="cluster name"),
        pytest.param({"a": [1, "b"]}, 'a="[1, \\"b\\"]"', id="list"),
        pytest.param({"a": Path("/x/y")}, "a=/x/y", id="path"),
        pytest.param({"a": ValueError("bad")}, "a=bad", id="exception"),
        pytest.param({"a": OnlyRepr()}, "a=<OnlyRepr>", id="object"),
        pytest.param({"a": Hostile()}, 'a="<Hostile that has no repr>"', id="object without text"),
        pytest.param({"a": {"b": Hostile()}}, 'a="{\\"b\\": \\"<Hostile that has no repr>\\"}"', id="inside"),
        pytest.param({"token": "s3cret", "tls_password": "x"}, "token=[secret] tls_password=[secret]", id="secrets"),
        pytest.param({"token_file": "/t", "tokens": 3}, "token_file=/t tokens=3", id="not secrets"),
    ],
)
def test_text(fields: dict[str, object], want: str) -> None:
    got = log("text", fields)
    assert got == f"{TIME} info    event_name {want} logger=kmesh.test\n".replace("  logger", " logger")


def test_text_shortens_a_huge_field() -> None:
    got = log("text", {"resource": "x" * 65536})
    assert "… (65536 characters)" in got
    assert len(got) < 2200


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"a": 1, "b": [1, (2,)], "c": None}, {"a": 1, "b": [1, [2]], "c": None}, id="plain"),
        pytest.param({"a": Path("/x"), "b": {1: OnlyRepr()}}, {"a": "/x", "b": {"1": "<OnlyRepr>"}}, id="foreign"),
        pytest.param({"a": b"\xff"}, {"a": "b'\\xff'"}, id="bytes"),
        pytest.param({"a": {"x"}}, {"a": ["x"]}, id="set"),
        pytest.param({"a": Hostile()}, {"a": "<Hostile that has no repr>"}, id="object without text"),
        pytest.param({"time": 1, "level": 2, "event": 3}, {"time_": 1, "level_": 2, "event_": 3}, id="names taken"),
        pytest.param({"a": {"password": "x", "b": 1}}, {"a": {"password": "[secret]", "b": 1}}, id="secret inside"),
        pytest.param({"a": "x\n\u2028y"}, {"a": "x\n\u2028y"}, id="new lines"),
    ],
)
def test_json(fields: dict[str, object], want: dict[str, object]) -> None:
    got = log("json", fields)
    assert got.count("\n") == 1
    assert json.loads(got) == {"time": TIME, "level": "info", "event": "event_name", "logger": "kmesh.test"} | want


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_field_that_contains_itself_is_still_one_line(log_format: str) -> None:
    got = log(log_format, {"a": LOOP, "b": 1})
    assert got.count("\n") == 1
    assert "event_name" in got


def test_traceback() -> None:
    out = io.StringIO()
    for log_format in ("text", "json"):
        configure_logging(log_format, "info", out)
        try:
            raise ValueError("bad")
        except ValueError:
            logger.exception("task_failed", extra={"task": "xds"})
    lines = out.getvalue().splitlines()
    assert lines[0] == f"{TIME} error   task_failed task=xds logger=kmesh.test"
    assert all(line.startswith("    ") for line in lines[1:-1])
    assert lines[-2] == "    ValueError: bad"
    assert json.loads(lines[-1])["exception"].endswith("ValueError: bad")


def test_level_governs_own_events_and_others_warn_only() -> None:
    out = io.StringIO()
    configure_logging("text", "debug", out)
    logger.debug("shown")
    logging.getLogger("hpack").info("hidden")
    logging.getLogger("grpclib").warning("took %s", "long")
    configure_logging("text", "error", out)
    logger.warning("hidden")
    # A loop that an earlier test left may warn of its own slowness meanwhile.
    got = [line.split()[1:3] for line in out.getvalue().splitlines() if "logger=asyncio" not in line]
    assert got == [["debug", "shown"], ["warning", "took"]]


def test_messages_of_others() -> None:
    out = io.StringIO()
    configure_logging("text", "info", out)
    logger.info("no place", 1)
    logging.getLogger("other").warning("two\nlines %s", "\x1b[31m")
    lines = out.getvalue().splitlines()
    assert [line.split("logger=")[0] for line in lines] == [
        f"{TIME} info    no place (1,) ",
        f"{TIME} warning two\\u000alines \\u001b[31m ",
    ]


def test_no_event_uses_a_reserved_field_name() -> None:
    """logging raises KeyError for these, at the moment the event happens: find them before."""
    reserved = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    for path in sorted(Path(kmesh.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                keys = {k.value for k in node.value.keys if isinstance(k, ast.Constant)}
                assert not keys & reserved, f"{path}:{node.value.lineno}"
