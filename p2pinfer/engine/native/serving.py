"""Sessions and requests that the kernel serves without Python, as far as they ask for nothing unusual (`serve.c`)."""

import ctypes
import socket
import weakref
from ctypes import c_int32, c_void_p

import numpy as np

from p2pinfer.core.sessions.pages import Table
from p2pinfer.core.values.errors import EngineError
from p2pinfer.engine.inbox import Inbox
from p2pinfer.engine.native.files import Bits


class SessionTable(Table):
    """A session's table where the kernel reads and writes it, too."""

    def __init__(self, library: ctypes.CDLL, span: int, slot: int, pages: tuple[int, ...]) -> None:
        """Raises EngineError if there is no memory."""
        numbers = (c_int32 * len(pages))(*pages)
        self._close, self._span = library.session_close, span
        self._session = library.session_open(span, slot, numbers, len(pages))
        if not self._session:
            raise EngineError(f"there is no memory for a session of {len(pages)} pages")
        self._held = c_int32.from_address(library.session_held(self._session))
        self.address: int = library.session_pages(self._session)
        super().__init__(pages)

    @property
    def held(self) -> int:  # a field of the base, here in the kernel's memory
        return self._held.value

    @held.setter
    def held(self, positions: int) -> None:
        self._held.value = positions

    def close(self) -> None:
        """Give the memory back; nothing may be called after it."""
        self._close(self._span, self._session)


class KernelInbox(Inbox):
    """Requests that the kernel does not answer itself (`serve.c`)."""

    def __init__(
        self, library: ctypes.CDLL, span: int, door: socket.socket, first: int, embedding: Bits | None, tail: bool
    ) -> None:
        """Raises EngineError if there is no memory."""
        self._next = library.door_next
        if embedding is not None:
            embedding = np.require(embedding, requirements=["C", "A"])  # as files that are mapped nearly always are
        self._keep = door, embedding
        address = None if embedding is None else embedding.ctypes.data
        self._door = library.door_open(span, door.fileno(), first, address, tail)
        if not self._door:
            raise EngineError("there is no memory for requests")
        self._closing = weakref.finalize(self, library.door_close, self._door)

    def receive(self) -> bytes:
        """Raises EngineError if there is no memory for a request."""
        body = c_void_p()
        size = self._next(self._door, ctypes.byref(body))
        if size < 0:
            raise EngineError("there is no memory for a request")
        if not size:
            raise EOFError("the parent closed the door")
        return ctypes.string_at(body.value or 0, size)
