"""How the maker of a model wants its ids drawn, as a manifest has it (manifest.md, 5.4). Penalties are not applied."""

from p2pinfer.core.draw import MILLIONTHS, Sampling
from p2pinfer.core.errors import ModelError
from p2pinfer.core.model_numbers import whole
from p2pinfer.core.shown import cut


def sampling_of(where: object, temperature: object, top_k: object, top_p: object) -> tuple[int, ...]:
    """Three numbers of the file `where`, or none where the temperature is 0.

    Raises ModelError where they make no sense.
    """
    try:
        draw = Sampling(_millionths(temperature), whole(top_k), _millionths(top_p))
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{where} says how to sample, and it cannot be: {cut(str(error))}") from None
    return () if draw.greedy else (draw.temperature, draw.top_k, draw.top_p)


def _millionths(value: object) -> int:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r:.80} is no number")
    return round(value * MILLIONTHS)
