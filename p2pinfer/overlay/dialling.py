"""Dialling a peer at several addresses: one after the other begins, and the first that answers counts (RFC 8305)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import LinkDead
from p2pinfer.overlay.pipe import Address, Pipe, abort

STAGGER_S: Final = 0.25  # between one address and the next, where the one has neither answered nor failed


async def dial_first(dial: Callable[[Address], Awaitable[Pipe]], addresses: Sequence[Address]) -> Pipe:
    """The pipe that is there first. A cancelled call leaves none.

    Raises LinkDead as the last address did, or UNREACHABLE where there is none.
    """
    pipes: list[Pipe] = []
    failure = LinkDead("no address is known", Code.UNREACHABLE)

    async def try_one(address: Address, failed: trio.Event, scope: trio.CancelScope) -> None:
        nonlocal failure
        try:
            pipes.append(await dial(address))
            scope.cancel()
        except LinkDead as error:
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
