"""A client that asks all the time, on a host of the lab, and says of each answer how it went.

`python -m tests.lab.asking DATA STORE ADDRESS...` prints a line of JSON for each answer, until standard input ends.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import trio

from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.core.values.keys import peer_name

AT_ONCE: Final = 2
TOKENS: Final = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, or its failure.

    began, ended: of the machine's monotonic clock
    peers:        names of the stages that carried it; none where no route answered
    failure:      why it failed, or empty
    """

    began: float
    ended: float
    peers: tuple[str, ...]
    failure: str


async def main(data: Path, store: Path, bootstrap: list[str]) -> None:
    async with open_client(data, store, bootstrap) as client, trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(keep_asking, client)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def keep_asking(client: Client) -> None:
    while True:
        sys.stdout.write(json.dumps(asdict(await ask(client))) + "\n")
        sys.stdout.flush()


async def ask(client: Client) -> Asked:
    began, peers, failure = time.monotonic(), (), ""
    try:
        async with client.open_answer("hello", max_tokens=TOKENS) as stream:
            peers = tuple(peer_name(stage.peer) for stage in stream.stages)
            async for _ in stream:
                pass
            _ = stream.answer  # raises what went wrong
    except P2pinferError as error:
        failure = str(error)
    return Asked(began, time.monotonic(), peers, failure)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
