"""What Linux counts of connections, which the bench of idle nodes goes by."""

import fcntl
import os
import socket
import sys
import termios
import time

import pytest

from tests.bench.sockets import Connections

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the bytes of connections")
SENT = bytes(10_000)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def test_bytes_are_counted_from_the_first_look_on() -> None:
    near, far = connected()
    with near, far:
        pass_on(near, far)
        seen = Connections({os.getpid(): "us"})
        pass_on(near, far)
        seen.look()
        carried = seen.since_first()["us"]
        assert (carried.sent, carried.received) == (len(SENT), len(SENT))
        assert carried.segments >= 1
        assert seen.open["us"] >= 2


def test_a_connection_that_came_and_went_counts_as_far_as_it_was_seen() -> None:
    seen = Connections({os.getpid(): "us"})
    near, far = connected()
    with near, far:
        pass_on(near, far)
        seen.look()
    seen.look()
    assert seen.since_first()["us"].received == len(SENT)


def pass_on(near: socket.socket, far: socket.socket) -> None:
    """Send SENT, and wait until the kernel of the sender knows that it came."""
    near.sendall(SENT)
    left = len(SENT)
    while left:
        left -= len(far.recv(left))
    while any(fcntl.ioctl(near.fileno(), termios.TIOCOUTQ, bytes(4))):
        time.sleep(0.001)
