"""The life of an instance in the kernel: build, adopt, attach, upgrade, uninstall."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from kmesh.errors import KernelError, VerifierRejected
from kmesh.kernel import sources
from kmesh.kernel.features import Features, probe_features
from kmesh.kernel.hooks import HOOKS, PROGRAMS
from kmesh.kernel.programs import attach, load, remove_stale
from kmesh.kernel.tables import KernelTables
from kmesh.kernel.uninstall import uninstall
from kmesh.maps.apply import Applier
from kmesh.maps.image import MapImage
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action
from tests.kernel.conftest import Kernel, open_kernel
from tests.support.records import backend, frontend, image
from tests.support.sandbox import BPFFS, Sandbox

VIP = SocketAddress.parse("127.96.0.1", 80)


@pytest.fixture
def fresh() -> Iterator[Kernel]:
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, probe_features())


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener
        listener.shutdown(socket.SHUT_RDWR)


def to_listener(listener: socket.socket) -> MapImage:
    number, record = backend(SocketAddress.parse("127.0.0.1", listener.getsockname()[1]))
    return image(one=[record, frontend(VIP, Action.BACKEND, number)])


def can_connect(kernel: Kernel) -> bool:
    code = 'import socket; print(socket.socket().connect_ex(("127.96.0.1", 80)))'
    return kernel.sandbox.python(code).strip() == "0"


def test_a_second_load_adopts_the_first(fresh: Kernel) -> None:
    again = load(fresh.paths, probe_features())
    assert again.was_adopted
    assert again.program_infos() == fresh.build.program_infos()


def test_a_build_cut_short_is_not_adopted(fresh: Kernel) -> None:
    fresh.build.programs_dir.rename(fresh.build.programs_dir.with_name(fresh.build.programs_dir.name + "-partial"))
    again = load(fresh.paths, probe_features())
    assert not again.was_adopted
    assert set(again.program_infos()) == set(PROGRAMS)


def test_attaching_again_changes_nothing(fresh: Kernel) -> None:
    assert attach(fresh.paths, fresh.build, [fresh.sandbox.pods]) == 0


def test_a_cgroup_made_anew_is_attached_anew(fresh: Kernel, listener: socket.socket) -> None:
    fresh.applier.apply(to_listener(listener))
    fresh.sandbox.pods.rmdir()
    fresh.sandbox.pods.mkdir()
    assert not can_connect(fresh)
    assert attach(fresh.paths, fresh.build, [fresh.sandbox.pods]) >= len(HOOKS)
    assert can_connect(fresh)


def test_a_cgroup_that_is_no_longer_named_is_detached(fresh: Kernel, listener: socket.socket) -> None:
    fresh.applier.apply(to_listener(listener))
    assert attach(fresh.paths, fresh.build, [fresh.sandbox.mesh]) == 2 * len(HOOKS)
    assert not can_connect(fresh)


def test_an_upgrade_replaces_programs_under_connections(fresh: Kernel, listener: socket.socket) -> None:
    """Connections in a loop while the links turn back and forth between two builds: none is missed."""
    fresh.applier.apply(to_listener(listener))
    other = load(fresh.paths, Features(has_set_retval=False))
    assert other.programs_dir != fresh.build.programs_dir
    code = textwrap.dedent("""
        import socket, sys, threading
        stopped = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
        failed = done = 0
        while not stopped.is_set():
            with socket.socket() as s:
                s.settimeout(5)
                failed += s.connect_ex(("127.96.0.1", 80)) != 0
            done += 1
            if done == 1:
                print("started", flush=True)
        print(done, failed)
    """)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
    with fresh.sandbox.spawn([sys.executable, "-c", code], enrolled=True, **pipes) as client:
        client.stdout.readline()
        for turn in range(60):
            attach(fresh.paths, (other, fresh.build)[turn % 2], [fresh.sandbox.pods])
        out, _ = client.communicate(timeout=20)
    done, failed = map(int, out.split())
    assert done > 100
    assert failed == 0


def accept_all(listener: socket.socket) -> None:
    """Until the listener is shut down."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_what_no_link_uses_is_removed(fresh: Kernel) -> None:
    other = load(fresh.paths, Features(has_set_retval=False))
    attach(fresh.paths, other, [fresh.sandbox.pods])
    assert remove_stale(fresh.paths, other) == [fresh.build.programs_dir]
    assert remove_stale(fresh.paths, other) == []


def test_a_new_layout_gets_maps_of_its_own(fresh: Kernel, listener: socket.socket, monkeypatch) -> None:
    """The old programs serve from the old maps until the links turn; then the old generation goes."""
    fresh.applier.apply(to_listener(listener))
    monkeypatch.setattr("kmesh.kernel.programs.layout_digest", lambda: "feedfeedfeed")
    new = load(fresh.paths, probe_features())
    assert new.maps_dir != fresh.build.maps_dir
    assert can_connect(fresh)
    Applier(KernelTables(new.maps_dir)).apply(to_listener(listener))
    attach(fresh.paths, new, [fresh.sandbox.pods])
    assert can_connect(fresh)
    assert set(remove_stale(fresh.paths, new)) == {fresh.build.maps_dir, fresh.build.programs_dir}
    assert can_connect(fresh)


def test_programs_live_on_without_any_process_of_ours(fresh: Kernel, listener: socket.socket) -> None:
    fresh.applier.apply(to_listener(listener))
    fresh.tables.close()
    assert can_connect(fresh)


def test_uninstall_removes_this_instance_and_no_other(fresh: Kernel, listener: socket.socket) -> None:
    with Sandbox() as sandbox:
        other = open_kernel(sandbox, probe_features())
        other.applier.apply(to_listener(listener))
        fresh.applier.apply(to_listener(listener))
        removed = uninstall(fresh.sandbox.instance, BPFFS)
        assert removed and all(f"/{fresh.sandbox.instance}" in path for path in removed)
        assert not fresh.paths.root.exists()
        assert not can_connect(fresh)
        assert can_connect(other)
    assert uninstall(fresh.sandbox.instance, BPFFS) == []


def test_code_that_does_not_compile_is_named(fresh: Kernel, monkeypatch) -> None:
    text = sources.program_text() + "\nint km_more(struct bpf_sock_addr *ctx) { return nothing; }\n"
    monkeypatch.setattr("kmesh.kernel.programs.program_text", lambda: text)
    monkeypatch.setattr("kmesh.kernel.programs.program_digest", lambda flags: "badbadbadbad")
    with pytest.raises(KernelError, match=r"compile .*use of undeclared identifier 'nothing'"):
        load(fresh.paths, probe_features())


def test_a_program_the_verifier_refuses_is_named_with_its_log(fresh: Kernel, monkeypatch) -> None:
    text = sources.program_text().replace("int km_connect4(", "int km_never(")
    text += "\nint km_connect4(struct bpf_sock_addr *ctx) { return *(int *)(long)ctx->user_ip4; }\n"
    monkeypatch.setattr("kmesh.kernel.programs.program_text", lambda: text)
    monkeypatch.setattr("kmesh.kernel.programs.program_digest", lambda flags: "badbadbadbad")
    with pytest.raises(VerifierRejected) as caught:
        load(fresh.paths, probe_features())
    assert caught.value.program == "km_connect4"
    assert "invalid mem access" in caught.value.log
