"""Peer-to-peer LLM inference, paid by receipts that both sides sign.

    import p2pinfer

    swarm = p2pinfer.connect(bootstrap=["/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo..."])
    for text in swarm.stream("What is a distributed hash table?", max_tokens=40):
        print(text, end="")

`connect` is for scripts, notebooks and threads, also as a block; `aconnect` for asyncio; `open_client` for Trio.
`help(p2pinfer.Options)` describes the options of a prompt.

A map of the package; imports point downwards, and siblings do not know each other:

    cli                        the command `p2pinfer`
    diagnosis                  what this machine can serve, and how fast
    node | client              the daemon | the library
    engine | overlay | disk    torch without network | network without torch | files and SQLite
    core                       no I/O: what a second implementation writes again from protocols/
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pinfer.client.aio import AsyncSwarm, AsyncTextStream, aconnect
    from p2pinfer.client.answer import Answer, AnswerStream
    from p2pinfer.client.api import Client, open_client
    from p2pinfer.client.blocking import Swarm, TextStream, connect
    from p2pinfer.client.request import Options
    from p2pinfer.core.values.errors import GenerationFailed, ModelError, NoRoute, P2pinferError, UsageError

__all__ = [
    "Answer",
    "AnswerStream",
    "AsyncSwarm",
    "AsyncTextStream",
    "Client",
    "GenerationFailed",
    "ModelError",
    "NoRoute",
    "Options",
    "P2pinferError",
    "Swarm",
    "TextStream",
    "UsageError",
    "aconnect",
    "connect",
    "open_client",
]

_HOMES = {
    "Answer": "p2pinfer.client.answer",
    "AnswerStream": "p2pinfer.client.answer",
    "AsyncSwarm": "p2pinfer.client.aio",
    "AsyncTextStream": "p2pinfer.client.aio",
    "Client": "p2pinfer.client.api",
    "GenerationFailed": "p2pinfer.core.values.errors",
    "ModelError": "p2pinfer.core.values.errors",
    "NoRoute": "p2pinfer.core.values.errors",
    "Options": "p2pinfer.client.request",
    "P2pinferError": "p2pinfer.core.values.errors",
    "Swarm": "p2pinfer.client.blocking",
    "TextStream": "p2pinfer.client.blocking",
    "UsageError": "p2pinfer.core.values.errors",
    "aconnect": "p2pinfer.client.aio",
    "connect": "p2pinfer.client.blocking",
    "open_client": "p2pinfer.client.api",
}


def __getattr__(name: str) -> object:
    """Names of the library, imported when they are used: a verifier of statements needs no network."""
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pinfer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
