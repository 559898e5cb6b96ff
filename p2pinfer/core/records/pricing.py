"""The cost of work: usage times prices, rounded up once on the total (protocols/receipts.md, "Usage")."""

from dataclasses import dataclass
from typing import Annotated

from p2pinfer.core.values import fields
from p2pinfer.core.values.fields import UInt, Zero
from p2pinfer.core.values.units import PRICE_UNIT, Nanocredits

USAGE_BITS = 28
PRICE_BITS = 32  # with USAGE_BITS, a sum of four products stays below 2^63


@dataclass(frozen=True, slots=True)
class Usage:
    """Work of one contract so far; layer-tokens are positions times layers."""

    prefill: Annotated[int, UInt(USAGE_BITS)]  # layer-tokens
    decode: Annotated[int, UInt(USAGE_BITS)]  # layer-tokens
    cached: Annotated[int, UInt(USAGE_BITS)]  # layer-tokens present without computing
    sampled: Annotated[int, UInt(USAGE_BITS)]  # ids, at the tail
    kv: Annotated[int, Zero(UInt(USAGE_BITS))] = 0  # reserved: MiB*s

    def __post_init__(self) -> None:
        fields.check(self)

    def positions(self, layers: int) -> int:
        """Positions that were charged, by a stage of so many layers."""
        return (self.prefill + self.cached + self.decode) // layers

    def __le__(self, other: "Usage") -> bool:
        """No part of this is more than the other's."""
        mine, others = fields.to_list(self), fields.to_list(other)
        return all(a <= b for a, b in zip(mine, others, strict=True))  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Prices:
    """Nano-credits per 1,000,000 units of usage."""

    prefill: Annotated[int, UInt(PRICE_BITS)]
    decode: Annotated[int, UInt(PRICE_BITS)]
    cached: Annotated[int, UInt(PRICE_BITS)]
    sampled: Annotated[int, UInt(PRICE_BITS)]
    kv: Annotated[int, Zero(UInt(PRICE_BITS))] = 0  # reserved

    def __post_init__(self) -> None:
        fields.check(self)
        if self.cached > self.prefill:
            raise ValueError(f"Prices.cached: {self.cached}, more than prefill {self.prefill}")

    def at_least(self, ask: "Prices") -> bool:
        """Every price meets the ask's."""
        mine, asks = fields.to_list(self), fields.to_list(ask)
        return all(a >= b for a, b in zip(mine, asks, strict=True))  # type: ignore[operator]


def amount_of(prices: Prices, flat: int, usage: Usage) -> Nanocredits:
    """Nano-credits that a contract of these terms has earned by `usage`."""
    total = (
        prices.prefill * usage.prefill
        + prices.decode * usage.decode
        + prices.cached * usage.cached
        + prices.sampled * usage.sampled
    )
    return Nanocredits(flat - (-total // PRICE_UNIT))
