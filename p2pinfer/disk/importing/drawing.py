"""The maker's wish how a model's ids are drawn, as a manifest has it (manifest.md, 5.4), and what nobody does of it."""

from collections.abc import Mapping
from typing import Final

from p2pinfer.core.models.model_numbers import whole
from p2pinfer.core.records.draw import MILLIONTHS, Sampling
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut

# What else transformers and llama.cpp may be told of sampling, and what makes no difference
UNAPPLIED: Final[Mapping[str, tuple[object, ...]]] = {
    "repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "num_beams": (1,),
    "penalty_alpha": (0.0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "general.sampling.min_p": (0.0,),
    "general.sampling.penalty_repeat": (1.0,),
}


def sampling_of(where: object, temperature: object, top_k: object, top_p: object) -> tuple[int, ...]:
    """Three numbers of the file `where`, or none where the temperature is 0.

    Raises ModelError where they make no sense.
    """
    try:
        draw = Sampling(_millionths(temperature), whole(top_k), _millionths(top_p))
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{where} says how to sample, and it cannot be: {cut(str(error))}") from None
    return () if draw.greedy else (draw.temperature, draw.top_k, draw.top_p)


def unapplied(said: Mapping[str, object]) -> tuple[str, ...]:
    """Sentences on what a file says of sampling that is not done here."""
    return tuple(
        f"{key} is {brief(value)} in the model's files, which is not applied"
        for key, neutral in UNAPPLIED.items()
        if (value := said.get(key)) is not None and value not in neutral
    )


def _millionths(value: object) -> int:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r:.80} is no number")
    return round(value * MILLIONTHS)
