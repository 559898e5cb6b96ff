"""What int8 costs in quality: the whole demo model in int8 against float32, at every position of a text.

All run in this process, through the backends that an engine's process uses, each with the text as one session.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.models.text import Texts
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.values.units import Numerics
from p2pinfer.engine.backend import Asked, Backend, Batch, Part
from p2pinfer.engine.choice import read_config
from p2pinfer.engine.codecs import Ids, Rows
from p2pinfer.engine.eager.layers import norm
from p2pinfer.engine.eager.span import load_eager
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.engine.native.span import load_native
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import shard_spec
from tests.bench.figures import Bound, Figure
from tests.bench.setting import demo_model

ABOUT = "int8 against float32 at every position of tests/bench/text.txt"
TEXT: Final = Path(__file__).with_name("text.txt")
CHUNK: Final = 256  # positions at once: their logits are 50 MB, of each class
THREADS: Final = 2
CLASSES: Final = {Numerics.I8G32_1: "int8", Numerics.I8G32K8_1: "int8, KV cache too"}

Head = Callable[[Rows], Rows]  # logits of rows after the last layer


def run() -> Sequence[Figure]:
    store, model = demo_model()
    ids = np.array(Texts(store.read(model.id, TOKENIZER), model.manifest).encode(TEXT.read_text("utf-8")), np.int64)
    config, exact = _spec(Numerics.F32_1, len(ids))
    totals = dict.fromkeys(CLASSES, Sums())
    ours = zip(*(_int8(_spec(numerics, len(ids))[1], config, ids) for numerics in CLASSES), strict=True)
    for expected, found, following in zip(_f32(exact, config, ids), ours, _next(ids), strict=True):
        for numerics, logits in zip(CLASSES, found, strict=True):
            totals[numerics] += _compared(expected, logits, following)
    return [figure for numerics, total in totals.items() for figure in total.figures(CLASSES[numerics])]


@dataclass(frozen=True, slots=True)
class Sums:
    """Over positions.

    divergence: of int8's distribution from float32's, Kullback-Leibler, in nats
    agreed:     positions at which both find the same id likeliest
    exact:      of float32, minus the logarithm of the id that follows; `loss` of int8
    """

    positions: int = 0
    divergence: float = 0.0
    agreed: int = 0
    exact: float = 0.0
    loss: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.positions + other.positions,
            self.divergence + other.divergence,
            self.agreed + other.agreed,
            self.exact + other.exact,
            self.loss + other.loss,
        )

    def figures(self, what: str) -> Sequence[Figure]:
        count = self.positions
        where = f"{count:,} positions of {TEXT.name}, the whole model, one session"
        before, after = exp(self.exact / count), exp(self.loss / count)
        agreement, change = 100 * self.agreed / count, 100 * (after / before - 1)
        perplexity = f"{after:.3f}, of f32 {before:.3f}; the issue names no bound"
        return [
            Figure(
                f"{what} against f32, KL divergence",
                self.divergence / count,
                Bound.BELOW,
                0.012,
                "nat",
                f"mean of {where}",
            ),
            Figure(f"{what} against f32, same likeliest id", agreement, Bound.AT_LEAST, 94.0, "%", f"of {where}"),
            Figure(f"{what} against f32, change of perplexity", change, Bound.BELOW, 1.0, "%", perplexity),
        ]


def _compared(exact: Rows, ours: Rows, following: Ids) -> Sums:
    """Of the logits of the same positions; `following` has the ids that come after all of them but perhaps the last."""
    right, given = _logarithms(exact[: len(following)]), _logarithms(ours[: len(following)])
    at = np.arange(len(following)), following
    return Sums(
        positions=len(following),
        divergence=float((np.exp(right) * (right - given)).sum()),
        agreed=int((right.argmax(1) == given.argmax(1)).sum()),
        exact=-float(right[at].sum()),
        loss=-float(given[at].sum()),
    )


def _logarithms(logits: Rows) -> NDArray[np.float64]:
    """Logarithms of probabilities, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(1, keepdims=True))
    return wide


def _next(ids: Ids) -> Iterator[Ids]:
    """The ids that follow those of each chunk; the last id of all is followed by none."""
    for first in range(0, len(ids), CHUNK):
        yield ids[first + 1 : first + CHUNK + 1]


def _spec(numerics: Numerics, positions: int) -> tuple[ModelConfig, ShardSpec]:
    store, model = demo_model()
    serve = Serve(numerics=numerics.label, threads=THREADS)
    spec = replace(shard_spec(store, model, model.manifest.span, serve), pages=pages_for(positions))
    return read_config(spec.config), spec


def _f32(spec: ShardSpec, config: ModelConfig, ids: Ids) -> Iterator[Rows]:
    backend = load_eager(spec, config, _unwatched)
    weights = backend._weights
    assert weights.head is not None and weights.norm is not None
    final, head = weights.norm, weights.head

    def logits(rows: Rows) -> Rows:
        given = torch.from_numpy(rows)
        result: Rows = head(norm(given, final, config.norm_eps)).numpy()
        return result

    return _logits(backend, config, logits, ids)


def _int8(spec: ShardSpec, config: ModelConfig, ids: Ids) -> Iterator[Rows]:
    backend = load_native(spec, config, _unwatched)

    def logits(rows: Rows) -> Rows:
        result, failed = backend._kernel.logits(rows)
        assert not any(failed)
        return result

    return _logits(backend, config, logits, ids)


def _logits(backend: Backend, config: ModelConfig, head: Head, ids: Ids) -> Iterator[Rows]:
    """Of every position, a chunk at a time: rows after the last layer, and then norm and head of them all."""
    table = backend.open_session(0, range(pages_for(len(ids))))
    for first in range(0, len(ids), CHUNK):
        given = ids[first : first + CHUNK]
        part = Part(0, table, range(first, first + len(given)), given, Asked.NOTHING)
        (rows,) = backend.compute(Batch([part], range(config.shape.layers), tail=False))
        assert isinstance(rows, np.ndarray)
        yield head(np.array(rows, np.float32))


def _unwatched(done: int, total: int) -> None:
    """Nobody looks."""
