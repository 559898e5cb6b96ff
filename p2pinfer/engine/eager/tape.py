"""A fake CUDA graph, on any device and without its speed: it shows whether a step may be recorded.

Operators are written down with the very tensors they were called with. A replay calls them again and puts the results
where they were; Python code between them, and what it had read, is not run again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from p2pinfer.engine.eager.replay import Compute


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operators that are called while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[Callable[[], None]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        named = kwargs or {}
        result = func(*args, **named)
        places = _tensors(result)
        self._calls.append(lambda: _put(_tensors(func(*args, **named)), places))
        return result

    def play(self) -> None:
        for call in self._calls:
            call()


def record(compute: Compute) -> Compute:
    """The step as a tape."""
    tape = Tape()
    with tape:
        result = compute()

    def replay() -> Tensor:
        tape.play()
        return result

    return replay


def _tensors(result: object) -> Sequence[Tensor]:
    """Return the tensors that an operator gave."""
    several = result if isinstance(result, list | tuple) else [result]
    tensors = [one for one in several if isinstance(one, Tensor)]
    if len(tensors) < len(several):
        raise TypeError(f"an operator that gives {result!r} cannot be recorded: what is read back is read once")
    return tensors


def _put(results: Sequence[Tensor], places: Sequence[Tensor]) -> None:
    """Put new results where the old ones lie; views lie there already."""
    for result, place in zip(results, places, strict=True):
        if result.data_ptr() != place.data_ptr():
            place.copy_(result)
