"""The engine's process: loads a shard, then answers requests until the parent is gone (`process.py` is its other side).

Started as `python -m p2pinfer.engine.worker FD`, where FD is one end of a socket pair. Signals that ask a program to
end are the parent's to answer: it ends this process when its sessions are paid, and the closed socket does so where
the parent cannot.
"""

import os
import select
import signal
import socket
import sys
import threading
from typing import Final

from p2pinfer.core.values.errors import ModelError
from p2pinfer.engine.inbox import SocketInbox
from p2pinfer.engine.messages import (
    Failed,
    Loading,
    ShardSpec,
    WorkerMessage,
    pack_message,
    unpack_request,
    unpack_spec,
)
from p2pinfer.system import ENDING

EXIT_ORPHAN: Final = 3


def main(fd: int) -> None:
    """Serve one parent for as long as it lives."""
    for number in ENDING:  # a service manager sends them to every process
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=fd) as door:
        threading.Thread(target=_end_with_parent, args=[door.fileno()], daemon=True).start()
        try:
            _serve(door, unpack_spec(SocketInbox(door).receive()))
        except ModelError as error:
            _send(door, Failed(str(error)))
        except EOFError:
            sys.exit(EXIT_ORPHAN)


def _serve(door: socket.socket, spec: ShardSpec) -> None:
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)  # read when torch is imported
    from p2pinfer.engine.shard import load_shard

    shard = load_shard(spec, lambda done, total: _send(door, Loading(done, total)))
    inbox = shard.open_inbox(door)  # the parent sends no request before it has the facts
    _send(door, shard.facts)
    while True:
        _send(door, shard.answer(unpack_request(inbox.receive())))


def _end_with_parent(fd: int) -> None:
    """End this process, in the middle of a step if need be, once the other end of the socket is closed."""
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(EXIT_ORPHAN)


def _send(door: socket.socket, message: WorkerMessage) -> None:
    door.sendall(pack_message(message))


if __name__ == "__main__":
    main(int(sys.argv[1]))
