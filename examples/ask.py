"""Ask the swarm one prompt, blocking: for scripts and notebooks.

python examples/ask.py MULTIADDR "What is a distributed hash table?"

MULTIADDR is what a node prints after `ready`. Peers that answer a prompt can read it.
"""

import argparse
import sys
from pathlib import Path

import p2pinfer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap", help="address of any peer of the swarm")
    parser.add_argument("prompt")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--no-mdns", dest="mdns", action="store_false", help="ask nobody on the local network")
    parser.add_argument("--data", type=Path, help="folder of the key that pays")
    parser.add_argument("--store", type=Path, help="folder of models; an empty one fetches the tokenizer from a peer")
    asked = parser.parse_args()

    try:
        with p2pinfer.connect(asked.data, asked.store, bootstrap=[asked.bootstrap], mdns=asked.mdns) as swarm:
            answer = swarm.answer([{"role": "user", "content": asked.prompt}], max_tokens=asked.max_tokens)
    except p2pinfer.P2pinferError as error:  # whatever can go wrong but for a bug; its text says what to do
        sys.exit(f"Error: {error}")

    print(answer.text)
    print(f"({answer.tokens} tokens, {answer.tokens_per_second:.1f} a second, over {len(answer.stages)} stages)")


if __name__ == "__main__":
    main()
