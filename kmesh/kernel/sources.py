"""The C sources as one text, and the digests that tell builds and layouts apart.

bcc rewrites table calls only in the main file, so the files of bpf_src are joined instead of included, with #line
so that errors name the right one.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

__all__ = ["layout_digest", "matcher_text", "program_digest", "program_text"]

_UAPI = "#include <uapi/linux/bpf.h>\n#include <uapi/linux/in.h>\n#include <uapi/linux/errno.h>\n"
_LAYOUT = ("km_records.h", "km_maps.h")
_MATCHER = (
    "km_cell.h",
    "km_choose.h",
    "km_automaton.h",
    "km_head.h",
    "km_value.h",
    "km_host.h",
    "km_route.h",
)
_PROGRAMS = (
    *_MATCHER,
    "km_framing.h",
    "km_stream_maps.h",
    "km_overlap.h",
    "km_chunks.h",
    "km_context.h",
    "km_flow.h",
    "km_connect.c",
    "km_peername.c",
    "km_datagram.c",
    "km_sockops.c",
    "km_request.c",
    "km_answer.c",
    "km_delivered.c",
)


def _join(names: tuple[str, ...]) -> str:
    folder = files("kmesh") / "bpf_src"
    return "".join(f'#line 1 "{name}"\n{(folder / name).read_text()}' for name in names)


def program_text() -> str:
    """Everything the loader compiles."""
    return _UAPI + _join(_LAYOUT) + _join(_PROGRAMS)


def matcher_text() -> str:
    """What a program that routes requests one by one begins with."""
    return _UAPI + _join(_LAYOUT) + _join(_MATCHER)


def layout_digest() -> str:
    """Of the records and maps: maps of another digest must not be reused."""
    return hashlib.blake2b(_join(_LAYOUT).encode(), digest_size=6).hexdigest()


def program_digest(cflags: tuple[str, ...]) -> str:
    """Of all that decides what a build does; equal builds are adopted, not compiled again."""
    return hashlib.blake2b("\0".join((program_text(), *cflags)).encode(), digest_size=6).hexdigest()
