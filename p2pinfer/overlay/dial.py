"""Dialling a peer at several addresses: one after the other begins, and the first that answers counts (RFC 8305).

A silent address costs SILENT_S at most, and others nothing; one that answers slowly is not given up while it gets on.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Undialled
from p2pinfer.overlay.pipe import Address, Pipe, abort, hear_nothing

STAGGER_S: Final = 0.25  # between one address and the next, where the one has neither answered nor failed
SILENT_S: Final = 5.0  # for an address to answer, and again for the key: a round trip of 2 s, one packet of it lost


class Dial(Protocol):
    """Opens a pipe at an address; calls `heard` whenever somebody there gets a step further."""

    async def __call__(self, address: Address, heard: Callable[[], None]) -> Pipe:
        """Raises LinkDead where there is none to be had."""


async def dial_first(dial: Dial, addresses: Sequence[Address], heard: Callable[[], None] = hear_nothing) -> Pipe:
    """The pipe that is there first. A cancelled call leaves none.

    heard: is called whenever somebody at one of the addresses gets a step further

    Raises LinkDead as the last address did, or Undialled where our own limit left one out: then it is not known if the
    peer is there. UNREACHABLE where there is no address.
    """
    pipes: list[Pipe] = []
    failure = LinkDead("no address is known", Code.UNREACHABLE)

    async def try_one(address: Address, failed: trio.Event, scope: trio.CancelScope) -> None:
        nonlocal failure
        try:
            pipes.append(await _dial_while_heard(dial, address, heard))
            scope.cancel()
        except LinkDead as error:
            if not isinstance(failure, Undialled):
                failure = error
            failed.set()

    kept: Pipe | None = None
    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(try_one, address, failed, nursery.cancel_scope)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()
        if not pipes:
            raise failure
        kept = pipes[0]
        return kept
    finally:
        for pipe in pipes:
            if pipe is not kept:
                await abort(pipe)


async def _dial_while_heard(dial: Dial, address: Address, heard: Callable[[], None]) -> Pipe:
    """Raises LinkDead where the address is silent for SILENT_S."""

    def hear() -> None:
        silence.deadline = trio.current_time() + SILENT_S
        heard()

    with trio.move_on_after(SILENT_S) as silence:
        return await dial(address, hear)
    raise LinkDead(f"no answer from {address} within {SILENT_S:.0f} s", Code.UNREACHABLE)
