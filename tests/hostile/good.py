"""A good client in a process of its own: it asks when it is told to, and says how that went.

`python -m tests.hostile.good DATA STORE BOOTSTRAP` reads one JSON object a line, the options of an answer, and prints
one for each: `ids` and when each came, in seconds since it was asked, or `error`.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import trio

from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.errors import P2pinferError
from tests.live.processes import ENVIRONMENT

PROMPT = "hello"
TOKENS = 16
STOP_S = 15.0
LAST_S = 120.0  # for the answer that is under way at the end: a client waits for no node longer


class GoodClient:
    """The other end of the process. Its answers are always the same, since they are greedy."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process
        self.pid = process.pid

    def ask(self, **options: object) -> dict[str, Any]:
        """One answer, or an error, whenever it comes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"max_tokens": TOKENS, **options}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": "the good client ended"}
        return found

    def end(self) -> None:
        """Whatever it waits for: the answer that is under way is an error then."""
        self._process.kill()

    def check(self, **options: object) -> None:
        """Asks must be answered as if nobody else were there."""
        answer = self.ask(**options)
        assert "error" not in answer, answer
        assert len(answer["ids"]) == options.get("max_tokens", TOKENS)

    async def check_async(self, **options: object) -> None:
        await trio.to_thread.run_sync(lambda: self.check(**options))


class Asking:
    """Asks in a loop in a thread, for as long as the block lasts. failures: what went wrong."""

    def __init__(self, client: GoodClient, **options: object) -> None:
        self.answers = 0
        self.tokens = 0
        self.failures: list[str] = []
        self._client = client
        self._options = options
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._client.ask(**self._options)
            if "error" in answer:
                self.failures.append(answer["error"])
                self._stop.wait(0.2)
            else:
                self.answers += 1
                self.tokens += len(answer["ids"])

    def __enter__(self) -> "Asking":
        self.began_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LAST_S)
        if self._thread.is_alive():
            self._client.end()
            self._thread.join()
        self.took_s = time.monotonic() - self.began_s


@contextmanager
def open_good_client(root: Path, store: Path, bootstrap: str) -> Iterator[GoodClient]:
    """It has been answered once when the block begins: models are found, links are up."""
    with open_asker(root, store, bootstrap) as client:
        client.check()
        yield client


@contextmanager
def open_asker(root: Path, store: Path, bootstrap: str) -> Iterator[GoodClient]:
    """It has met nobody yet."""
    command = [sys.executable, "-m", "tests.hostile.good", str(root / "good"), str(store), bootstrap]
    root.mkdir(parents=True, exist_ok=True)
    with (
        (root / "good.log").open("w") as stderr,
        Popen(command, stdin=PIPE, stdout=PIPE, stderr=stderr, text=True, env=ENVIRONMENT) as process,
    ):
        try:
            yield GoodClient(process)
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


async def main(data: Path, store: Path, bootstrap: str) -> None:
    async with open_client(data, store, [bootstrap]) as client:
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            sys.stdout.write(json.dumps(await _answer(client, json.loads(line))) + "\n")
            sys.stdout.flush()


async def _answer(client: Client, options: dict[str, Any]) -> dict[str, object]:
    began = trio.current_time()
    try:
        async with client.open_answer(PROMPT, **options) as stream:
            times = [trio.current_time() - began async for _ in stream]
            return {"ids": stream.answer.ids, "seconds": trio.current_time() - began, "times": times}
    except P2pinferError as error:
        return {"error": str(error), "seconds": trio.current_time() - began}


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
