"""`python -m kmesh.xds.server`: addresses, errors and exit status."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kmesh.model.address import HostAddress
from kmesh.xds.server.__main__ import main, parse_listen

ADDRESSES = {
    "v4": ("127.0.0.1:18000", HostAddress("127.0.0.1", 18000)),
    "name": ("localhost:0", HostAddress("localhost", 0)),
    "v6": ("[::1]:80", HostAddress("::1", 80)),
    "unix": ("unix:/run/ads.sock", Path("/run/ads.sock")),
    "unix, relative": ("unix:ads.sock", Path("ads.sock")),
}
NO_ADDRESSES = ["", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "::1:80", "[]:80", "unix:"]


@pytest.mark.parametrize(("text", "want"), ADDRESSES.values(), ids=ADDRESSES)
def test_parse_listen(text: str, want: HostAddress | Path) -> None:
    got = parse_listen(text)
    assert got == want


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_parse_listen_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not HOST:PORT"):
        parse_listen(text)


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "python -m kmesh.xds.server --config-dir" in capsys.readouterr().out


def test_an_error_in_the_files_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("resources: 5")
    assert main(["--config-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f'python -m kmesh.xds.server: {tmp_path}/a.yaml has no list named "resources"\n'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_with_status_0_and_nothing_left(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("resources: []")
    path = tmp_path / "ads.sock"
    command = [sys.executable, "-m", "kmesh.xds.server", "--config-dir", tmp_path, "--listen", f"unix:{path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        try:
            assert process.stdout.readline() == f"listening on unix:{path}\n"
            process.send_signal(number)
            assert process.wait(5) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
    assert not path.exists()
