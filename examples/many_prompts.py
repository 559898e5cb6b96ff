"""Ask several prompts at once and watch them come: the stages compute them together.

python examples/many_prompts.py MULTIADDR "The sea is" "The moon is" "A parked car is"
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import p2pinfer


async def ask_all(
    client: p2pinfer.Client, prompts: list[str], max_tokens: int, progress: Progress
) -> list[p2pinfer.Answer]:
    """Answers in the order of the prompts, with a bar for each while they come."""
    answers: dict[int, p2pinfer.Answer] = {}

    async def ask(number: int, prompt: str) -> None:
        bar = progress.add_task(prompt, total=max_tokens)
        async with client.open_answer(prompt, max_tokens=max_tokens) as stream:
            async for _piece in stream:
                progress.advance(bar)
            answers[number] = stream.answer
        progress.update(bar, completed=answers[number].tokens, total=answers[number].tokens)

    async with trio.open_nursery() as nursery:
        for number, prompt in enumerate(prompts):
            nursery.start_soon(ask, number, prompt)
    return [answers[number] for number in range(len(prompts))]


async def run(asked: argparse.Namespace) -> None:
    bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    async with p2pinfer.open_client(asked.data, asked.store, [asked.bootstrap], mdns=asked.mdns) as client:
        began = trio.current_time()
        with bars:
            answers = await ask_all(client, asked.prompts, asked.max_tokens, bars)
        seconds = trio.current_time() - began
    for prompt, answer in zip(asked.prompts, answers, strict=True):
        print(f"{prompt}{answer.text}\n")
    tokens = sum(answer.tokens for answer in answers)
    print(f"{tokens} tokens of {len(answers)} answers in {seconds:.1f} s: {tokens / seconds:.1f} a second together")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap", help="address of any peer of the swarm")
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--no-mdns", dest="mdns", action="store_false", help="ask nobody on the local network")
    parser.add_argument("--data", type=Path, help="folder of the key that pays")
    parser.add_argument("--store", type=Path, help="folder of models; an empty one fetches the tokenizer from a peer")
    failures: list[BaseException] = []
    try:
        trio.run(run, parser.parse_args())
    except* p2pinfer.P2pinferError as group:  # of several answers at once, several may fail
        failures += group.exceptions
    if failures:
        sys.exit(f"Error: {first_of(failures)}")


def first_of(failures: Sequence[BaseException]) -> BaseException:
    """Nurseries within nurseries make groups within groups."""
    first = failures[0]
    return first_of(first.exceptions) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    main()
