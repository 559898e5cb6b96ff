"""Numbers of a model that its files do not bound, and their ranges (protocols/manifest.md, 5.1).

They stand in config.json: an import writes it, an engine reads it, and both ask here. Outside of the ranges a model
computes nothing, or noise, or what two engines do not agree on.
"""

from typing import Final

from p2pinfer.core.models.architecture import Shape
from p2pinfer.core.values.shown import brief

MAX_LAYERS: Final = 999  # three digits, so that files sort by layer
MAX_WIDTH: Final = 1 << 16  # of a row; the codec q8o4 writes places in it in 16 bits
MAX_NORM_EPS: Final = 1.0
MIN_ROPE_THETA: Final = 1.0
MAX_ROPE_THETA: Final = 1e15
MIN_ROPE_FACTOR: Final = 1.0
MAX_ROPE_FACTOR: Final = 1e6
MAX_FREQ_FACTOR: Final = 1e6
MAX_CONFIG_POSITIONS: Final = 1 << 24  # of a context, or of a sliding window: a binary32 tells them all apart


def check_numbers(eps: float, theta: float, window: int | None) -> None:
    """Raise ValueError for a number that makes no sense."""
    if not 0 < eps <= MAX_NORM_EPS:
        raise ValueError(f"rms_norm_eps is {eps}; it must be above 0, at most {MAX_NORM_EPS}")
    if not MIN_ROPE_THETA <= theta <= MAX_ROPE_THETA:
        raise ValueError(f"rope_theta is {theta}; it must be from {MIN_ROPE_THETA} to {MAX_ROPE_THETA}")
    if window is not None and not 1 <= window <= MAX_CONFIG_POSITIONS:
        raise ValueError(f"sliding_window is {window} positions; it must be from 1 to {MAX_CONFIG_POSITIONS}")


def check_scaling(factor: float, low: float, high: float, original: int) -> None:
    """The same of `rope_scaling`: its factor, the two of frequencies, and the original context."""
    if not MIN_ROPE_FACTOR <= factor <= MAX_ROPE_FACTOR:
        raise ValueError(f"factor of rope_scaling is {factor}; it must be from {MIN_ROPE_FACTOR} to {MAX_ROPE_FACTOR}")
    if not 0 < low < high <= MAX_FREQ_FACTOR:
        raise ValueError(
            f"low_freq_factor is {low}, high_freq_factor {high}; the first must be above 0 and below the second, the "
            f"second at most {MAX_FREQ_FACTOR}"
        )
    if not 1 <= original <= MAX_CONFIG_POSITIONS:
        raise ValueError(
            f"original_max_position_embeddings is {original}; it must be whole, from 1 to {MAX_CONFIG_POSITIONS}"
        )


def check_sizes(shape: Shape) -> None:
    """Raise ValueError for sizes that no model has."""
    if min(shape) < 1 or max(shape) >= 1 << 32:
        raise ValueError(f"a size of nothing, or of more than 32 bits: {shape}")
    if shape.layers > MAX_LAYERS:
        raise ValueError(f"{shape.layers} layers, limit {MAX_LAYERS}")
    check_context(shape.context)
    if shape.heads % shape.kv_heads:
        raise ValueError(f"{shape.heads} heads cannot share {shape.kv_heads} key and value heads")
    if shape.head_size % 2:
        raise ValueError(f"rotary positions need an even head size, not {shape.head_size}")


def check_context(context: int) -> None:
    """Raise ValueError for positions that no contract could speak of, or no engine tell apart."""
    if context > MAX_CONFIG_POSITIONS:
        raise ValueError(f"a context of {context} positions, limit {MAX_CONFIG_POSITIONS}")


def whole(value: object) -> int:
    """A number of JSON that is whole, however it is written. Raises ValueError for another, or what is none."""
    if type(value) is int or (type(value) is float and value.is_integer()):
        return int(value)
    raise ValueError(f"{brief(value)} is no whole number")
