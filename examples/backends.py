"""The demo's backends: small HTTP and UDP servers that answer with the address they listen on.

`python -m examples.backends HOST:PORT... [udp:HOST:PORT...]`; prints "ready" once all listen.
"""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host, port = self.server.server_address[:2]
        body = f"{host}:{port}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 512


def _answer_datagrams(sock: socket.socket, name: str) -> None:
    while True:
        _, peer = sock.recvfrom(512)
        sock.sendto(name.encode(), peer)


def main() -> None:
    for argument in sys.argv[1:]:
        is_udp = argument.startswith("udp:")
        host, _, port = argument.removeprefix("udp:").rpartition(":")
        if is_udp:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((host, int(port)))
            run = threading.Thread(target=_answer_datagrams, args=(sock, f"{host}:{port}"))
        else:
            run = threading.Thread(target=_Server((host, int(port)), _Answer).serve_forever)
        run.start()
    print("ready", flush=True)


if __name__ == "__main__":
    main()
