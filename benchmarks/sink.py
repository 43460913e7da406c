"""An OTLP/HTTP server that answers 200 to everything, in a process of its own so that its GIL is nobody's.

``python -m benchmarks.sink`` binds a free port of the loopback interface, prints it, and ends with its stdin.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["running_sink"]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """Reads a request's length, then its body, and answers. No parsing: the least a receiver can cost."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head, self.missing = b"", 0

    def data_received(self, data: bytes) -> None:
        while data:
            if not self.missing:
                head, end, data = (self.head + data).partition(b"\r\n\r\n")
                if not end:
                    self.head = head
                    return
                self.head = b""
                self.missing = _length(head)
            taken = min(self.missing, len(data))
            self.missing -= taken
            data = data[taken:]
            if not self.missing:
                self.transport.write(ANSWER)  # type: ignore[attr-defined]  # a TCP transport's


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def running_sink() -> Iterator[str]:
    """Its URL for traces, while it runs."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(serve())
