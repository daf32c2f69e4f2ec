"""The one-shot loader: compile with bcc, load, pin, exit. `python -m kmesh.kernel.loader`, a child of the bridge.

It is a process of its own because compiling takes LLVM and its 150 MB, which the bridge must not keep. A JSON job on
standard input ({"text", "cflags", "programs": {name: [type, attach type]}, "steps": {name: [array, place]},
"pin_dir"}) gives a JSON result on standard output
({"failed": null} or {"failed": "compile" | "load NAME", "why": ...}); compiler messages and verifier logs go to
standard error, where bcc writes them.

The only file that imports bcc.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from kmesh.errors import KernelError
from kmesh.kernel import bpf
from kmesh.kernel.headers import has_running_kernel_headers, merge_headers


def main() -> int:
    job = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="kmesh-headers-") as headers:
        try:
            if not has_running_kernel_headers():
                merge_headers(Path(headers))
                os.environ["BCC_KERNEL_SOURCE"] = headers
        except KernelError as error:
            return _report("headers", str(error))
        return _build(job)


def _build(job: dict[str, Any]) -> int:
    try:
        from bcc import BPF
    except ImportError as error:
        return _report("import", str(error))
    try:
        module = BPF(text=job["text"], cflags=job["cflags"])
    except Exception as error:  # bcc raises bare Exception
        return _report("compile", str(error))
    # The folder gets its name only when it is complete, so a build that was cut short is never adopted.
    # (A bpf file system takes no name with a dot.)
    final = Path(job["pin_dir"])
    partial = final.with_name(final.name + "-partial")
    _remove(partial)
    partial.mkdir(parents=True)
    loaded = {}
    for name, (prog_type, attach_type) in job["programs"].items():
        try:
            loaded[name] = module.load_func(name, prog_type, attach_type=attach_type).fd
        except Exception as error:
            return _report(f"load {name}", str(error))
        bpf.pin(loaded[name], partial / name)
    for name, (array, place) in job["steps"].items():
        bpf.update(module[array].map_fd, struct.pack("<I", place), struct.pack("<I", loaded[name]))
    for array in sorted({array for array, _ in job["steps"].values()}):
        bpf.pin(module[array].map_fd, partial / array)  # one that nothing holds loses what is in it
    partial.rename(final)
    return _report(None, "")


def _remove(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _report(failed: str | None, why: str) -> int:
    json.dump({"failed": failed, "why": why}, sys.stdout)
    return 0 if failed is None else 1


if __name__ == "__main__":
    sys.exit(main())
