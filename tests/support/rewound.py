"""A TCP connection whose end sends bytes again that the other end has: as a segment that was lost in part does.

Source: tcp(7) does not tell of TCP_REPAIR; include/uapi/linux/tcp.h and net/ipv4/tcp.c do.
"""

from __future__ import annotations

import socket
import struct

__all__ = ["rewind"]

_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQ, _REPAIR_OPTIONS, _REPAIR_WINDOW = 19, 20, 21, 22, 29
_RECEIVE_QUEUE, _SEND_QUEUE = 1, 2
_ON, _OFF_WITHOUT_PROBE = 1, -1
_WINDOW = struct.Struct("5I")
"""snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup."""
_OPTION = struct.Struct("2I")
_OPTION_MSS, _OPTION_WINDOW_SCALE = 2, 3
_INFO_SCALES = 6
"""Where tcp_info has them: the other end's in the lower half, this one's in the upper."""
_SEQUENCE_MASK = 0xFFFFFFFF


def rewind(sock: socket.socket, count: int) -> socket.socket:
    """The same connection, `sock` being closed: what is sent next takes the place of the last `count` bytes.

    All that was sent must have been acknowledged. Needs CAP_NET_ADMIN.
    """
    here, there = sock.getsockname(), sock.getpeername()
    sock.setsockopt(socket.IPPROTO_TCP, _REPAIR, _ON)
    sent, received = (_sequence(sock, queue) for queue in (_SEND_QUEUE, _RECEIVE_QUEUE))
    window = sock.getsockopt(socket.IPPROTO_TCP, _REPAIR_WINDOW, _WINDOW.size)
    scales = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[_INFO_SCALES]
    options = _OPTION.pack(_OPTION_WINDOW_SCALE, scales & 15 | scales >> 4 << 16)
    options += _OPTION.pack(_OPTION_MSS, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    again = socket.socket(sock.family, socket.SOCK_STREAM)
    sock.close()  # silently, as it is in repair
    again.setsockopt(socket.IPPROTO_TCP, _REPAIR, _ON)
    again.bind(here)
    for queue, number in ((_SEND_QUEUE, sent - count), (_RECEIVE_QUEUE, received)):
        again.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, queue)
        again.setsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, struct.pack("I", number & _SEQUENCE_MASK))
    again.connect(there)
    again.setsockopt(socket.IPPROTO_TCP, _REPAIR_OPTIONS, options)
    again.setsockopt(socket.IPPROTO_TCP, _REPAIR_WINDOW, window)
    again.setsockopt(socket.IPPROTO_TCP, _REPAIR, _OFF_WITHOUT_PROBE)
    again.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return again


def _sequence(sock: socket.socket, queue: int) -> int:
    """Of the next byte that this queue has to do with."""
    sock.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, queue)
    return struct.unpack("I", sock.getsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, 4))[0]
