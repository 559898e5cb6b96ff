"""One transformer layer of the Llama family, and what stands before the first and after the last one."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.engine.eager.attention import attend
from p2pinfer.engine.eager.cache import Cache
from p2pinfer.engine.eager.plan import BatchLayout
from p2pinfer.engine.eager.rope import rotate
from p2pinfer.engine.eager.weights import Layer


def run_layer(config: ModelConfig, layer: Layer, number: int, rows: Tensor, plan: BatchLayout, cache: Cache) -> Tensor:
    """Hidden states of all positions of a batch: (positions, hidden) in and out. `number` counts within the span."""
    rows = rows + _attention(config, layer, number, norm(rows, layer.attention_norm, config.norm_eps), plan, cache)
    return rows + _mlp(layer, norm(rows, layer.mlp_norm, config.norm_eps))


def norm(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm over the last dimension."""
    return F.rms_norm(rows, weight.shape, weight, eps)


def _attention(config: ModelConfig, layer: Layer, number: int, rows: Tensor, plan: BatchLayout, cache: Cache) -> Tensor:
    heads, kv_heads = config.shape.heads, config.shape.kv_heads
    joined = layer.qkv(rows).view(
        len(rows), -1, config.shape.head_size
    )  # (positions, heads + 2 x key heads, head size)
    turned, values = joined[:, : heads + kv_heads], joined[:, heads + kv_heads :]
    if layer.query_norm is not None and layer.key_norm is not None:
        turned[:, :heads] = norm(turned[:, :heads], layer.query_norm, config.norm_eps)
        turned[:, heads:] = norm(turned[:, heads:], layer.key_norm, config.norm_eps)
    turned = rotate(turned, plan.cos, plan.sin)
    # all positions are written before any is read: rows of one step see each other
    cache.write(number, plan.places, turned[:, heads:], values)
    return layer.output(attend(turned[:, :heads], cache, number, plan.readings))


def _mlp(layer: Layer, rows: Tensor) -> Tensor:
    joined = layer.gate_up(rows)  # (positions, 2 x feed-forward)
    half = joined.shape[1] // 2
    return layer.down(F.silu(joined[:, :half]) * joined[:, half:])
