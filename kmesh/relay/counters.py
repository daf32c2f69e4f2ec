"""How many bytes of a TCP stream were written and taken, as the kernel counts them since the connection was made.

What a process that died was about to do is compared with these. They are exact whether or not bytes have been
acknowledged, and do not count SYN and FIN, which TCP numbers like bytes:

    written = tcpi_bytes_acked + SIOCOUTQ - 1 if this end opened the connection - 1 if its FIN was sent
    taken   = tcpi_bytes_received - SIOCINQ - 1 if the other end's FIN came

Not for sockets in a sockmap with a verdict (their received bytes are partly others'), nor after a reset.
Source: tcp_get_info() and tcp_ioctl() in linux net/ipv4/tcp.c, tcp_snd_una_update() in tcp_input.c.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

__all__ = ["count_taken", "count_written"]

_SIOCINQ: Final = 0x541B
_SIOCOUTQ: Final = 0x5411
_INFO_BYTES = 136
_COUNTS = struct.Struct("<QQ")  # tcpi_bytes_acked, tcpi_bytes_received
_COUNTS_AT = 120
_SENT_FIN = frozenset({4, 5, 6, 7, 9, 11})
"""FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, LAST_ACK, CLOSING: of linux include/net/tcp_states.h."""
_GOT_FIN = frozenset({6, 7, 8, 9, 11})
"""TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING."""


def count_written(sock: socket.socket, *, is_opener: bool) -> int:
    """Bytes that were written into it, acknowledged or not. `is_opener`: by connect(). Raises: OSError."""
    while True:
        state, acked, _ = _info(sock)
        queued = _queue(sock, _SIOCOUTQ)
        if _info(sock)[:2] == (state, acked):  # else an acknowledgement moved bytes between the two readings
            return acked + queued - is_opener - (state in _SENT_FIN)


def count_taken(sock: socket.socket) -> int:
    """Bytes that were read out of it. Raises: OSError."""
    while True:
        state, _, received = _info(sock)
        queued = _queue(sock, _SIOCINQ)
        again, _, received_again = _info(sock)
        if (again, received_again) == (state, received):
            return received - queued - (state in _GOT_FIN)


def _info(sock: socket.socket) -> tuple[int, int, int]:
    """State, bytes acknowledged, bytes received."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    acked, received = _COUNTS.unpack_from(raw, _COUNTS_AT)
    return raw[0], acked, received


def _queue(sock: socket.socket, which: int) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(sock, which, bytes(4)))
    return int(count)
