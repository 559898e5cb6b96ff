"""A wire between a client and a node that a test can hold: what the client says then stays on the way."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


class Wire:
    """address: where to dial instead of the node's own."""

    def __init__(self, node: str) -> None:
        _, _, host, _, port, _, peer = node.split("/")
        self._far = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"/ip4/127.0.0.1/tcp/{self._listener.getsockname()[1]}/p2p/{peer}"
        self._held = Event()
        self._ends: list[socket.socket] = [self._listener]

    def hold(self) -> None:
        """From now on nothing that the client says arrives; what the node says does."""
        self._held.set()

    def carry(self) -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(self._far)
                self._ends += [near, far]
                Thread(target=self._pass_on, args=(near, far, self._held), daemon=True).start()
                Thread(target=self._pass_on, args=(far, near, Event()), daemon=True).start()

    def cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, held: Event) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not held.is_set():
                    target.sendall(data)
            if not held.is_set():
                target.shutdown(socket.SHUT_WR)


@contextmanager
def wire_to(node: str) -> Iterator[Wire]:
    """A wire to the node at this address, for as long as the block lasts."""
    wire = Wire(node)
    Thread(target=wire.carry, daemon=True).start()
    try:
        yield wire
    finally:
        wire.cut()
