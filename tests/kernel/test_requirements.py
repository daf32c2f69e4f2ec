"""What is missing is said in one sentence with the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kmesh.errors import FeatureMissing, KernelError
from kmesh.kernel import bpf, headers, mounts
from kmesh.kernel.features import probe_features
from tests.support.sandbox import REPO, Sandbox


def test_this_kernel_has_what_is_needed() -> None:
    probe_features()


def test_not_root() -> None:
    code = (
        "import os; os.setuid(65534)\n"
        "from kmesh.kernel.features import probe_features\n"
        "try: probe_features()\n"
        "except Exception as error: print(error)"
    )
    # Import before giving up root: the interpreter may live where only root can read.
    code = "import kmesh.kernel.features\n" + code
    got = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert "must run as root" in got


@pytest.mark.parametrize(
    ("missing", "feature", "min_kernel"),
    [(bpf.AttachType.GETPEERNAME4, "getpeername", "5.8"), ("atomic", "fetch-and-add", "5.12")],
    ids=["getpeername", "atomics"],
)
def test_a_missing_feature_names_the_kernel_that_has_it(monkeypatch, missing, feature: str, min_kernel: str) -> None:
    """The kernel's answer is replaced for one probe, as an older kernel would give it."""
    really = bpf.can_load

    def old_kernel(program: bytes, attach_type: bpf.AttachType) -> bool:
        if missing == "atomic":
            return b"\xdb" not in program[16:17] and really(program, attach_type)
        return attach_type is not missing and really(program, attach_type)

    monkeypatch.setattr(bpf, "can_load", old_kernel)
    with pytest.raises(FeatureMissing, match=feature) as caught:
        probe_features()
    assert caught.value.min_kernel == min_kernel
    assert "boot a newer kernel" in str(caught.value)


def test_an_unknown_instruction_is_refused_by_the_real_probe() -> None:
    """The probe can fail: a call of a function that does not exist is not loadable."""
    no_such_function = bytes([0x85, 0, 0, 0, 0xFF, 0xFF, 0, 0]) + bytes([0xB7, 0, 0, 0, 1, 0, 0, 0, 0x95] + [0] * 7)
    assert not bpf.can_load(no_such_function, bpf.AttachType.CONNECT4)


def test_no_headers(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(headers, "_PACKAGES", tmp_path)
    with pytest.raises(KernelError, match="apt-get install linux-headers-amd64"):
        headers.merge_headers(tmp_path / "out")


def test_headers_of_two_packages_are_merged(monkeypatch, tmp_path: Path) -> None:
    for package, file in (
        ("linux-headers-6.1.0-9-common", "include/linux/types.h"),
        ("linux-headers-6.1.0-9-common", "include/generated/common.h"),
        ("linux-headers-6.1.0-9-amd64", "include/generated/autoconf.h"),
        ("linux-headers-6.1.0-10-common", "include/linux/newer.h"),
        ("linux-headers-6.1.0-10-amd64", "include/generated/autoconf.h"),
        ("linux-headers-6.1.0-10-common", "include/generated/common.h"),
    ):
        path = tmp_path / "src" / package / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(package)
    monkeypatch.setattr(headers, "_PACKAGES", tmp_path / "src")
    headers.merge_headers(tmp_path / "out")
    got = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.h")}
    for file in ("include/linux/newer.h", "include/generated/autoconf.h", "include/generated/common.h"):
        assert (tmp_path / "out" / file).read_text().startswith("linux-headers-6.1.0-10"), got
    assert not (tmp_path / "out/include/linux/types.h").exists()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", ["/sys/fs/cgroup"], id="unified"),
        pytest.param(
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            ["/sys/fs/cgroup/unified"],
            id="hybrid",
        ),
        pytest.param("none /mnt/my\\040cgroupé cgroup2 rw 0 0\n", ["/mnt/my cgroupé"], id="escaped"),
        pytest.param("cgroup2 /tmp/x tmpfs rw 0 0\n", [], id="none: the first column is only a label"),
        pytest.param("", [], id="empty"),
    ],
)
def test_mounts_are_listed(text: str, want: list[str], tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(text)
    assert mounts.list_mounts("cgroup2", table) == list(map(Path, want))


def test_no_cgroup2(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text("proc /proc proc rw 0 0\n")
    with pytest.raises(KernelError, match="mount -t cgroup2"):
        mounts.find_cgroup2(table)


def test_cgroups_are_checked(tmp_path: Path) -> None:
    with Sandbox() as sandbox:
        assert mounts.require_cgroups([sandbox.pods, sandbox.mesh]) == (sandbox.pods, sandbox.mesh)
        assert mounts.require_cgroups([sandbox.pods, sandbox.pods]) == (sandbox.pods,)
        with pytest.raises(KernelError, match="name only the outer one"):
            mounts.require_cgroups([sandbox.cgroup, sandbox.pods])
        with pytest.raises(KernelError, match="is not a cgroup"):
            mounts.require_cgroups([tmp_path])
    with pytest.raises(KernelError, match="is not a cgroup"):
        mounts.require_cgroups([sandbox.pods])


def test_bpffs_is_mounted_where_it_is_missing(tmp_path: Path) -> None:
    mounts.require_bpffs(tmp_path)
    try:
        assert tmp_path.is_mount()
        mounts.require_bpffs(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_bpffs_that_cannot_be_mounted(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"no such directory.*mount -t bpf bpf"):
        mounts.require_bpffs(tmp_path / "nowhere")
