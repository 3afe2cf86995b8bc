"""A TCP line to a server that loses replies: a request arrives, is carried out, and its answer is cut short."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class FlakyLine:
    """Passes bytes between clients and a port, in threads of its own. Use as a context."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._losses = 0
        self._keep = 0
        self._threads: list[threading.Thread] = []
        self._sockets = [self._listener]
        self.lost = 0

    @property
    def url(self) -> str:
        """The address of this end."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def lose(self, losses: int, keep: int = 0) -> None:
        """Break the connection at each of the next replies, after so many of its bytes have passed."""
        self._losses, self._keep = losses, keep

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in self._sockets:
            _hang_up(each)
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=None)
        except OSError:  # nobody is there at present
            _hang_up(near)
            return
        self._sockets += [near, far]
        self._start(self._ask, near, far)
        self._start(self._answer, near, far)

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        _hang_up(far)

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                if self._losses > 0:
                    self._losses -= 1
                    self.lost += 1
                    near.sendall(data[: self._keep])
                    break
                near.sendall(data)
        _hang_up(near)
        _hang_up(far)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
