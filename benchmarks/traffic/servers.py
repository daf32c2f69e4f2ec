"""What nginx has no answer for: an echo, and an HTTP server that reads a whole body before it answers.

`python -m benchmarks.traffic.servers ADDRESS ECHO_PORT UPLOAD_PORT`
"""

from __future__ import annotations

import socket
import sys
import threading
from socketserver import BaseRequestHandler, StreamRequestHandler, ThreadingTCPServer

__all__: list[str] = []

_CHUNK = 1 << 18


class _Echo(BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = memoryview(bytearray(_CHUNK))
        while count := self.request.recv_into(buffer):
            self.request.sendall(buffer[:count])


class _Upload(StreamRequestHandler):
    """Keep-alive; bodies have a Content-Length."""

    def handle(self) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        while self.rfile.readline():
            left = self._read_length()
            while left:
                left -= self.rfile.readinto(buffer[: min(left, _CHUNK)])
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def _read_length(self) -> int:
        length = 0
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return length


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke is counted by the client."""


def main() -> None:
    address, echo, upload = sys.argv[1:]
    threading.Thread(target=_Server((address, int(echo)), _Echo).serve_forever, daemon=True).start()
    _Server((address, int(upload)), _Upload).serve_forever()


if __name__ == "__main__":
    main()
