"""kmesh at work, on this machine, on the resources in examples/resources: `scripts/demo`.

Starts backends, the bridge (which serves the resources to itself over ADS) and clients, each a process of its own;
prints which backend answered how often beside what the configuration says; kills the bridge and does it again; leaves
nothing behind. Traffic stays on 127.96.0.0/16, where no service address has a listener: an answer that comes at all
came through the kernel programs.

Exit status: 0 when every split is as configured, else 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from tests.support.sandbox import REPO, Sandbox

_RESOURCES = REPO / "examples" / "resources"
_READY_S = 180.0
_ANSWER_S = 60.0
"""Bounds, not measures: an emulated machine takes seconds to start Python (scripts/test-kernels)."""


@dataclass(frozen=True)
class Service:
    """What the demo asks, and what the resources say of it: {answer: share}."""

    file: str
    protocol: str
    host: str
    port: int
    shares: dict[str, float]
    count: int = 500
    is_exact: bool = False
    """Round robin: shares are met to within one."""
    request: tuple[str, ...] = ()
    """Of an HTTP service whose requests are routed one by one: path, and a header's name and value."""


SERVICES = (
    Service(
        "shop.yaml",
        "tcp",
        "127.96.0.10",
        80,
        {"127.96.1.1:8080": 0.8 * 3 / 4, "127.96.1.2:8080": 0.8 * 1 / 4, "127.96.1.3:8080": 0.2},
    ),
    Service(
        "reviews.yaml", "tcp", "127.96.0.20", 80, {"127.96.2.1:8080": 0.5, "127.96.2.2:8080": 0.5}, is_exact=True
    ),
    Service(
        "names.yaml",
        "udp",
        "127.96.0.30",
        53,
        {"127.96.3.1:5353": 0.5, "127.96.3.2:5353": 0.5},
        count=100,
        is_exact=True,
    ),
    Service("refused.yaml", "tcp", "127.96.0.40", 80, {"ECONNREFUSED": 1.0}, count=20),
    Service("refused.yaml", "tcp", "127.96.0.50", 80, {"ECONNREFUSED": 1.0}, count=20),
)
_V1, _V2 = "127.96.4.1:8080", "127.96.4.2:8080"
REQUESTS = (
    Service("web.yaml", "http", "127.96.0.60", 80, {_V1: 0.75, _V2: 0.25}, request=("/",)),
    Service("web.yaml", "http", "127.96.0.60", 80, {_V2: 1.0}, request=("/", "x-version", "next")),
    Service(
        "web.yaml", "http", "127.96.0.60", 80, {"301 http://127.96.0.60/new": 1.0}, count=20, request=("/old",)
    ),
)
_BACKENDS = (
    *(f"127.96.1.{i}:8080" for i in (1, 2, 3)),
    *(f"127.96.2.{i}:8080" for i in (1, 2, 3, 4)),
    *(_V1, _V2),
    *(f"udp:127.96.3.{i}:5353" for i in (1, 2)),
)


class Demo:
    """The processes of one run, in a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.socket = sandbox.folder / "kmesh.sock"
        self.log = sandbox.folder / "bridge.log"

    def start_backends(self) -> None:
        argv = [sys.executable, "-m", "examples.backends", *_BACKENDS]
        backends = self.sandbox.spawn(argv, stdout=subprocess.PIPE)
        assert backends.stdout is not None
        if backends.stdout.readline() != "ready\n":
            raise RuntimeError("the backends did not start: is something else listening on 127.96.0.0/16?")

    def start_bridge(self) -> subprocess.Popen[str]:
        """Returns once the configuration is in the kernel."""
        with self.log.open("a") as log:
            bridge = self.sandbox.spawn([sys.executable, "-m", "kmesh.bridge", *self.options()], stderr=log)
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if bridge.poll() is not None:
                raise RuntimeError(f"the bridge did not start:\n{self.log.read_text()}")
            if self.status().get("apply", {}).get("at"):
                return bridge
            time.sleep(0.05)
        raise RuntimeError(f"the bridge was not ready in {_READY_S:.0f} s:\n{self.log.read_text()}")

    def options(self) -> list[str]:
        return [
            f"--config-dir={_RESOURCES}",
            f"--instance={self.sandbox.instance}",
            f"--cgroup={self.sandbox.pods}",
            f"--state-dir={self.sandbox.folder / 'state'}",
            f"--api-socket={self.socket}",
        ]

    def status(self) -> dict:
        argv = [sys.executable, "-m", "kmesh.cli.main", "status", "--json", "--socket", self.socket]
        status = self.sandbox.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        out, _ = status.communicate(timeout=_ANSWER_S)
        return json.loads(out) if out else {}

    def carried(self) -> tuple[int, int]:
        """Exchanges so far, of the kernel and of the relay."""
        relay = self.status()["relay"]
        return relay["kernel_exchanges"], sum(item["count"] for item in relay["relayed"])

    def ask(self, service: Service) -> dict[str, int]:
        argv = ["examples.client", service.protocol, service.host, str(service.port), str(service.count)]
        argv += service.request
        return json.loads(self.sandbox.run([sys.executable, "-m", *argv], enrolled=True))


def _tolerance(service: Service, share: float) -> float:
    """How far a count may be off: 5 standard deviations of a random split, one for round robin."""
    if service.is_exact or share in (0.0, 1.0):
        return float(service.is_exact)
    return 5 * sqrt(service.count * share * (1 - share))


def _rows(service: Service, got: dict[str, int]) -> Iterator[tuple[bool, str]]:
    address = f"{service.protocol} {service.host}:{service.port}"
    for answer in sorted(service.shares | got):
        share, count = service.shares.get(answer, 0.0), got.get(answer, 0)
        is_right = abs(count - share * service.count) <= _tolerance(service, share)
        mark = "ok" if is_right else "WRONG"
        yield is_right, (
            f"{service.file:<13} {address:<20} {answer:<16} {share:>9.0%}  {count:>5} of {service.count:<4}"
            f"{count / service.count:>6.0%}  {mark}"
        )
        address = ""


def _show_services(demo: Demo) -> bool:
    print(f"{'RESOURCES':<13} {'SERVICE':<20} {'ANSWERED BY':<16} CONFIGURED  GOT")
    is_right = True
    for service in SERVICES:
        for row_is_right, row in _rows(service, demo.ask(service)):
            is_right &= row_is_right
            print(row)
    print()
    return is_right


def _show_requests(demo: Demo) -> bool:
    """Each service over one connection, which stays open."""
    print(f"{'RESOURCES':<13} {'REQUEST':<24} {'ANSWERED BY':<25} CONFIGURED  GOT")
    is_right = True
    for service in REQUESTS:
        before = demo.carried()
        got = demo.ask(service)
        kernel, relay = (now - then for now, then in zip(demo.carried(), before, strict=True))
        for row_is_right, row in _request_rows(service, got):
            is_right &= row_is_right
            print(row)
        print(f"{'':<13} carried by the kernel {kernel}, by the relay {relay}\n")
    return is_right


def _request_rows(service: Service, got: dict[str, int]) -> Iterator[tuple[bool, str]]:
    path, *header = service.request
    request = f"GET {path} {' '.join(header)}"
    for answer in sorted(service.shares | got):
        share, count = service.shares.get(answer, 0.0), got.get(answer, 0)
        is_right = abs(count - share * service.count) <= _tolerance(service, share)
        mark = "ok" if is_right else "WRONG"
        yield is_right, (
            f"{service.file:<13} {request:<24} {answer:<25} {share:>10.0%}  {count:>3} of {service.count:<3}  {mark}"
        )
        request = ""


def _run(demo: Demo, stays: bool) -> bool:
    demo.start_backends()
    print("Starting the bridge on examples/resources (the first start compiles the programs) ...", flush=True)
    bridge = demo.start_bridge()
    print(f"Ready. Each row: connections from an enrolled process to a service address, {SERVICES[0].file} first.\n")
    is_right = _show_services(demo)
    print("Requests that are routed one by one, over one connection each:\n")
    is_right &= _show_requests(demo)

    print("The bridge is killed with -9. Its programs are pinned and its relay goes on, so the same again:\n")
    bridge.kill()
    bridge.wait()
    is_right &= _show_services(demo)
    is_right &= all(is_right for service in REQUESTS for is_right, _ in _request_rows(service, demo.ask(service)))

    bridge = demo.start_bridge()
    operations = demo.status()["apply"].get("operations", 0)
    print(f"Started again, the bridge adopted what the kernel holds: {operations} map operations were needed.")
    if stays:
        _stay(demo)
    bridge.send_signal(signal.SIGTERM)
    bridge.wait(timeout=_ANSWER_S)
    return is_right and operations == 0


def _stay(demo: Demo) -> None:
    pods = demo.sandbox.pods
    print(f"""
It stays until Ctrl-C. In another shell, as root:
  .venv/bin/kmeshctl status --socket {demo.socket}
  .venv/bin/kmeshctl dump ir --socket {demo.socket}
  sh -c 'echo 0 > {pods}/cgroup.procs; exec curl -s 127.96.0.10'
Edit a file in examples/resources and ask again; the bridge logs to {demo.log}.""")
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Show kmesh at work on this machine.")
    parser.add_argument("--stay", action="store_true", help="keep it running until Ctrl-C and say what to try")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Sandbox() as sandbox:
        is_right = _run(Demo(sandbox), options.stay)
    print("Everything the demo started is gone; nothing is attached or pinned.")
    if not is_right:
        print("A split was not as configured: see WRONG above.", file=sys.stderr)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
