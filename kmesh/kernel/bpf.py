"""bpf(2): one function per command, file descriptors in and out, OSError on failure.

Knows the system call and the layout of union bpf_attr, nothing of kmesh. Source: include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = [
    "BPF_F_NO_PREALLOC",
    "AttachType",
    "MapInfo",
    "MapType",
    "ProgInfo",
    "can_load",
    "create_link",
    "create_map",
    "delete_batch",
    "enable_run_stats",
    "get_object",
    "insert",
    "keys",
    "link_prog_id",
    "load_program",
    "lookup",
    "lookup_all",
    "map_fd_by_id",
    "map_info",
    "pin",
    "pop",
    "prog_info",
    "query_programs",
    "update",
    "update_batch",
    "update_link",
]

BPF_F_NO_PREALLOC = 1 << 0
_NO_EXIST = 1

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_ATTR_SIZE = 144  # larger than any command here uses; the kernel ignores zero bytes beyond what it knows
_BATCH_BYTES = 1 << 18
"""Of keys and values in one command: enough that the command costs little, and no more memory than is soon reused."""
_PROG_TYPE_CGROUP_SOCK_ADDR = 18


class _Cmd(IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_TEST_RUN = 10
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    ENABLE_STATS = 32


class MapType(IntEnum):
    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    HASH_OF_MAPS = 13
    SOCKHASH = 18
    QUEUE = 22
    RINGBUF = 27
    LRU_HASH = 9
    ARRAY_OF_MAPS = 12
    SK_STORAGE = 24


class AttachType(IntEnum):
    """Attach points of BPF_PROG_TYPE_CGROUP_SOCK_ADDR that kmesh uses."""

    SOCK_OPS = 3
    CONNECT4 = 10
    CONNECT6 = 11
    SENDMSG4 = 14
    SENDMSG6 = 15
    RECVMSG4 = 19
    RECVMSG6 = 20
    GETPEERNAME4 = 29
    GETPEERNAME6 = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class MapInfo:
    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    memory_bytes: int
    """What the kernel charges for the map now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgInfo:
    id: int
    tag: str
    name: str
    load_time_ns: int
    """Since boot."""
    verified_insns: int
    """Instructions the verifier walked; 0 before Linux 5.16."""
    translated_bytes: int
    run_time_ns: int
    """Spent in `run_count` runs, both since loading and counted only while `enable_run_stats` is in force."""
    run_count: int


_Attr = ctypes.Array[ctypes.c_char]
_Buffer = bytes | ctypes.Array[ctypes.c_char]
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_syscall.restype = ctypes.c_long
_NUMBER = _SYSCALL.get(platform.machine(), -1)  # -1 is no system call: ENOSYS


def _call(cmd: _Cmd, attr: bytes) -> tuple[int, _Attr]:
    """Run one command; returns its result, or -errno, and the attr as the kernel left it."""
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    result: int = _syscall(_NUMBER, int(cmd), ctypes.addressof(buffer), _ATTR_SIZE)
    return (result if result >= 0 else -ctypes.get_errno()), buffer


_ELEMENT = struct.Struct("<I4xQQQ")  # map_fd, key, value, flags
_KEY_AT, _VALUE_AT, _ELEMENT_BYTES = 64, 1024, 64 * 1024


class _Scratch(threading.local):
    """Memory for attr, key and value of one element's command; making it anew costs more than the command."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(_ELEMENT_BYTES)
        self.view = memoryview(self.buffer).cast("B")
        self.address = ctypes.addressof(self.buffer)


_scratch = _Scratch()


def _call_element(cmd: int, fd: int, key: bytes, value: bytes = b"", flags: int = 0) -> int:
    """Run a command on one element; returns its result, or -errno. What the kernel gives is at _VALUE_AT."""
    view, address = _scratch.view, _scratch.address
    value_at = 0 if cmd == _Cmd.MAP_DELETE_ELEM else address + _VALUE_AT
    _ELEMENT.pack_into(view, 0, fd, address + _KEY_AT if key else 0, value_at, flags)
    if len(key) > _VALUE_AT - _KEY_AT or len(value) > _ELEMENT_BYTES - _VALUE_AT:
        raise ValueError("an element larger than any of kmesh's")
    view[_KEY_AT : _KEY_AT + len(key)] = key
    view[_VALUE_AT : _VALUE_AT + len(value)] = value
    result: int = _syscall(_NUMBER, cmd, address, _ELEMENT.size)
    return result if result >= 0 else -ctypes.get_errno()


def _given(value_size: int) -> bytes:
    return bytes(_scratch.view[_VALUE_AT : _VALUE_AT + value_size])


def _bpf(cmd: _Cmd, attr: bytes) -> int:
    """Run one command. Raises OSError."""
    result, _ = _call(cmd, attr)
    if result < 0:
        raise OSError(-result, f"bpf({cmd.name}): {os.strerror(-result)}")
    return result


def _address(buffer: _Buffer) -> int:
    """Of a buffer; the caller keeps it alive over the call."""
    if isinstance(buffer, bytes):
        return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
    return ctypes.addressof(buffer)


def create_map(
    map_type: MapType,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    inner_fd: int = 0,
    name: str = "",
) -> int:
    """Create a map and return its descriptor; `name` is cut to the kernel's 15 characters."""
    sizes = (map_type, key_size, value_size, max_entries, flags, inner_fd)
    return _bpf(_Cmd.MAP_CREATE, struct.pack("<7I16s", *sizes, 0, name.encode()[:15]))


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set one element. `value` of a map of maps is a packed descriptor; of socket storage, `key` is one."""
    _raise_unless_ok(_Cmd.MAP_UPDATE_ELEM, _call_element(_Cmd.MAP_UPDATE_ELEM, fd, key, value))


def insert(fd: int, key: bytes, value: bytes) -> bool:
    """Set an element that is not there; returns whether it was not."""
    result = _call_element(_Cmd.MAP_UPDATE_ELEM, fd, key, value, _NO_EXIST)
    if result != -errno.EEXIST:
        _raise_unless_ok(_Cmd.MAP_UPDATE_ELEM, result)
    return result == 0


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """The value of `key`, None when there is none. A per-CPU value_size counts all possible CPUs."""
    result = _call_element(_Cmd.MAP_LOOKUP_ELEM, fd, key)
    if result == -errno.ENOENT:
        return None
    _raise_unless_ok(_Cmd.MAP_LOOKUP_ELEM, result)
    return _given(value_size)


def delete(fd: int, key: bytes) -> bool:
    """Delete one element; returns whether it was there."""
    result = _call_element(_Cmd.MAP_DELETE_ELEM, fd, key)
    if result != -errno.ENOENT:
        _raise_unless_ok(_Cmd.MAP_DELETE_ELEM, result)
    return result == 0


def push(fd: int, value: bytes) -> None:
    """Put a value into a queue. Raises OSError, with E2BIG when it is full."""
    _raise_unless_ok(_Cmd.MAP_UPDATE_ELEM, _call_element(_Cmd.MAP_UPDATE_ELEM, fd, b"", value))


def pop(fd: int, value_size: int, key: bytes = b"") -> bytes | None:
    """Take a value out of a queue, or with `key` out of a hash map (Linux 5.14); None when there is none."""
    result = _call_element(_Cmd.MAP_LOOKUP_AND_DELETE_ELEM, fd, key)
    if result == -errno.ENOENT:
        return None
    _raise_unless_ok(_Cmd.MAP_LOOKUP_AND_DELETE_ELEM, result)
    return _given(value_size)


def keys(fd: int, key_size: int) -> Iterator[bytes]:
    """The keys of any hash map, one command for each; deleting the one just given is allowed.

    One that is deleted by others meanwhile may have the walk begin anew.
    """
    following = ctypes.create_string_buffer(key_size)
    key = b""
    while True:
        attr = struct.pack("<I4xQQ", fd, _address(key) if key else 0, _address(following))
        result, _ = _call(_Cmd.MAP_GET_NEXT_KEY, attr)
        if result == -errno.ENOENT:
            return
        _raise_unless_ok(_Cmd.MAP_GET_NEXT_KEY, result)
        key = following.raw
        yield key


def attach_to_map(prog_fd: int, map_fd: int, attach_type: int) -> None:
    """Have the sockets of a sockmap or sockhash run a program; the map holds it from then on."""
    _bpf(_Cmd.PROG_ATTACH, struct.pack("<4I", map_fd, prog_fd, attach_type, 0))


def run_program(prog_fd: int, packet: bytes) -> int:
    """What a program of the traffic classifier returns for a packet. Source: bpf(2), BPF_PROG_TEST_RUN."""
    row = struct.pack("<4IQQ2I", prog_fd, 0, len(packet), 0, _address(packet), 0, 1, 0)
    result, attr = _call(_Cmd.PROG_TEST_RUN, row)
    _raise_unless_ok(_Cmd.PROG_TEST_RUN, result)
    (returned,) = struct.unpack_from("<i", attr, 4)
    return int(returned)


def update_batch(fd: int, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
    """Set many elements; the first failure stops it, with the earlier ones set."""
    batch = _batch_of(len(keys[0]) + len(values[0])) if keys else 1
    for at in range(0, len(keys), batch):
        some = keys[at : at + batch]
        key_block, value_block = b"".join(some), b"".join(values[at : at + batch])
        _bpf(_Cmd.MAP_UPDATE_BATCH, _batch_attr(fd, len(some), keys=key_block, values=value_block))


def delete_batch(fd: int, keys: Sequence[bytes]) -> int:
    """Delete many elements, passing over keys that are not there; returns how many were."""
    at = deleted = 0
    batch = _batch_of(len(keys[0])) if keys else 1
    while at < len(keys):
        some = keys[at : at + batch]
        key_block = b"".join(some)
        result, attr = _call(_Cmd.MAP_DELETE_BATCH, _batch_attr(fd, len(some), keys=key_block))
        if result == -errno.ENOENT:  # it stopped at the first key that is not there
            deleted += _batch_count(attr)
            at += _batch_count(attr) + 1
            continue
        _raise_unless_ok(_Cmd.MAP_DELETE_BATCH, result)
        deleted += len(some)
        at += len(some)
    return deleted


def lookup_all(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Every element of a hash map; those changed meanwhile may be seen old, new, twice or not at all."""
    count, position = _batch_of(key_size + value_size), b""
    while True:
        keys = ctypes.create_string_buffer(key_size * count)
        values = ctypes.create_string_buffer(value_size * count)
        next_position = ctypes.create_string_buffer(max(key_size, 8))
        attr = _batch_attr(fd, count, keys=keys, values=values, position=position, next_position=next_position)
        result, out = _call(_Cmd.MAP_LOOKUP_BATCH, attr)
        if result == -errno.ENOSPC:  # one bucket holds more than a batch
            count *= 2
            continue
        if result != -errno.ENOENT:  # ENOENT marks the last batch, which may hold elements too
            _raise_unless_ok(_Cmd.MAP_LOOKUP_BATCH, result)
        found = _batch_count(out)
        yield from zip(_cut(keys, key_size, found), _cut(values, value_size, found), strict=True)
        if result == -errno.ENOENT:
            return
        position = next_position.raw


def _batch_of(element_bytes: int) -> int:
    return max(1, _BATCH_BYTES // element_bytes)


def _cut(block: _Attr, size: int, count: int) -> Iterator[bytes]:
    raw = block.raw  # once: it is a copy of the whole
    return (raw[at : at + size] for at in range(0, count * size, size))


def _batch_attr(
    fd: int,
    count: int,
    *,
    keys: _Buffer,
    values: _Buffer = b"",
    position: bytes = b"",
    next_position: _Buffer = b"",
) -> bytes:
    addresses = [_address(block) if len(block) else 0 for block in (position, next_position, keys, values)]
    return struct.pack("<QQQQIIQQ", *addresses, count, fd, 0, 0)


def _batch_count(attr: _Attr) -> int:
    """Elements a batch command got through."""
    return int(struct.unpack_from("<I", attr, 32)[0])


def _raise_unless_ok(cmd: _Cmd, result: int) -> None:
    if result < 0:
        raise OSError(-result, f"bpf({cmd.name}): {os.strerror(-result)}")


def pin(fd: int, path: Path) -> None:
    """Give an object a name in a bpf file system, which keeps it alive. Raises FileExistsError."""
    name = os.fsencode(path) + b"\0"
    _bpf(_Cmd.OBJ_PIN, struct.pack("<QII", _address(name), fd, 0))


def get_object(path: Path) -> int:
    """A descriptor of a pinned object. Raises FileNotFoundError."""
    name = os.fsencode(path) + b"\0"
    return _bpf(_Cmd.OBJ_GET, struct.pack("<QII", _address(name), 0, 0))


def map_fd_by_id(map_id: int) -> int:
    return _bpf(_Cmd.MAP_GET_FD_BY_ID, struct.pack("<III", map_id, 0, 0))


def _object_info(fd: int, size: int) -> bytes:
    info = ctypes.create_string_buffer(size)
    _bpf(_Cmd.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, size, _address(info)))
    return info.raw


def map_info(fd: int) -> MapInfo:
    """struct bpf_map_info, and the memory that fdinfo reports."""
    kind, map_id, key_size, value_size, max_entries, flags, name = struct.unpack_from("<6I16s", _object_info(fd, 80))
    return MapInfo(
        id=map_id,
        type=kind,
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        flags=flags,
        name=name.split(b"\0")[0].decode(),
        memory_bytes=_fdinfo_number(fd, "memlock"),
    )


def prog_info(fd: int) -> ProgInfo:
    """struct bpf_prog_info."""
    raw = _object_info(fd, 232)
    _, prog_id, tag, _, translated = struct.unpack_from("<II8sII", raw)
    load_time_ns, _, _, _, name = struct.unpack_from("<QIIQ16s", raw, 40)
    return ProgInfo(
        id=prog_id,
        tag=tag.hex(),
        name=name.split(b"\0")[0].decode(),
        load_time_ns=load_time_ns,
        verified_insns=struct.unpack_from("<I", raw, 216)[0],
        translated_bytes=translated,
        run_time_ns=struct.unpack_from("<Q", raw, 192)[0],
        run_count=struct.unpack_from("<Q", raw, 200)[0],
    )


def enable_run_stats() -> int:
    """Have the kernel time every run of every program, until the descriptor that this returns is closed."""
    return _bpf(_Cmd.ENABLE_STATS, bytes(4))  # BPF_STATS_RUN_TIME


def _fdinfo_number(fd: int, field: str) -> int:
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value)
    return 0


def create_link(prog_fd: int, target_fd: int, attach_type: AttachType) -> int:
    """Attach a program to a cgroup; the link detaches it when its last descriptor or pin goes."""
    return _bpf(_Cmd.LINK_CREATE, struct.pack("<4I", prog_fd, target_fd, attach_type, 0))


def update_link(link_fd: int, prog_fd: int) -> None:
    """Replace the link's program in one step: no connect() runs without the old or the new one."""
    _bpf(_Cmd.LINK_UPDATE, struct.pack("<4I", link_fd, prog_fd, 0, 0))


def link_prog_id(link_fd: int) -> int:
    """Id of the program a link runs now."""
    _, _, prog_id = struct.unpack_from("<III", _object_info(link_fd, 64))
    return int(prog_id)


_LOAD_TRIES = 10
"""A signal that comes while the verifier works makes it give up with EAGAIN."""


def load_program(instructions: bytes, attach_type: AttachType) -> int:
    """Load a cgroup sock_addr program. Raises OSError when the kernel does not take it."""
    license_text = b"GPL\0"
    attr = struct.pack(
        "<IIQQ44xI",
        _PROG_TYPE_CGROUP_SOCK_ADDR,
        len(instructions) // 8,
        _address(instructions),
        _address(license_text),
        attach_type,
    )
    for _ in range(_LOAD_TRIES):
        result, _ = _call(_Cmd.PROG_LOAD, attr)
        if result != -errno.EAGAIN:
            break
    _raise_unless_ok(_Cmd.PROG_LOAD, result)
    return result


def can_load(instructions: bytes, attach_type: AttachType) -> bool:
    """Whether the kernel takes this cgroup sock_addr program; nothing stays loaded."""
    try:
        os.close(load_program(instructions, attach_type))
    except OSError:
        return False
    return True


def query_programs(cgroup_fd: int, attach_type: AttachType) -> list[int]:
    """Ids of the programs attached to this very cgroup at one attach point, in the order they run."""
    ids = (ctypes.c_uint32 * 64)()
    attr = struct.pack("<IIIIQI", cgroup_fd, attach_type, 0, 0, ctypes.addressof(ids), len(ids))
    result, out = _call(_Cmd.PROG_QUERY, attr)
    _raise_unless_ok(_Cmd.PROG_QUERY, result)
    return list(ids[: struct.unpack_from("<I", out, 24)[0]])
