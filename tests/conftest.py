"""What holds for every test: options, no skips where they are forbidden, and a kernel that did not complain."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadlines", deadline=None)  # machines are busy, and no test is a measurement
settings.load_profile("no deadlines")

_KERNEL_LOG = Path("/dev/kmsg")
_COMPLAINT = re.compile(r"\b(WARNING|BUG|Oops|general protection fault|possible .* deadlock)\b", re.IGNORECASE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what the code does now")


@pytest.fixture
def updates_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI set in the environment, a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and skips are forbidden here: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def kernel_log() -> Iterator[None]:
    """Fails the run when the kernel logged a warning or worse since it began. Needs root, as most tests do."""
    log = os.open(_KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    yield
    complaints = [line for line in _read_kernel_log(log) if _COMPLAINT.search(line)]
    os.close(log)
    assert not complaints, "the kernel complained during the tests:\n" + "\n".join(complaints)


def _read_kernel_log(log: int) -> Iterator[str]:
    """One record each, without its prefix. Source: Documentation/ABI/testing/dev-kmsg."""
    while True:
        try:
            yield os.read(log, 8192).decode(errors="replace").partition(";")[2].strip()
        except BlockingIOError:
            return
        except BrokenPipeError:  # records were overwritten before they were read
            continue
