"""Peer-to-peer LLM inference, paid by receipts that both sides sign.

    import p2pinfer

    with p2pinfer.connect(bootstrap=["/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo..."]) as swarm:
        print(swarm.generate("What is a distributed hash table?"))

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
    from p2pinfer.client.answer import Answer, AnswerStream
    from p2pinfer.client.api import Client, open_client
    from p2pinfer.client.blocking import Swarm, connect
    from p2pinfer.core.values.errors import P2pinferError

__all__ = ["Answer", "AnswerStream", "Client", "P2pinferError", "Swarm", "connect", "open_client"]

_HOMES = {
    "Answer": "p2pinfer.client.answer",
    "AnswerStream": "p2pinfer.client.answer",
    "Client": "p2pinfer.client.api",
    "P2pinferError": "p2pinfer.core.values.errors",
    "Swarm": "p2pinfer.client.blocking",
    "connect": "p2pinfer.client.blocking",
    "open_client": "p2pinfer.client.api",
}


def __getattr__(name: str) -> object:
    """Names of the library, imported when they are used: a verifier of statements needs no network."""
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pinfer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
