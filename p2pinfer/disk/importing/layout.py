"""The tensors of each file of a model, and their shapes (manifest.md, 5.3). The names are Hugging Face's."""

from p2pinfer.core.models.manifest import EMBEDDING, HEAD, layer_file
from p2pinfer.disk.importing.config import Config

EMBED: str = "model.embed_tokens.weight"
NORM: str = "model.norm.weight"
OUTPUT: str = "lm_head.weight"

Tensors = dict[str, tuple[int, ...]]  # name -> shape


def layout(config: Config) -> dict[str, Tensors]:
    """Every file with tensors, in the order a route needs them."""
    matrix = (config.shape.vocabulary, config.shape.hidden)
    head: Tensors = {NORM: (config.shape.hidden,)} | ({} if config.tied else {OUTPUT: matrix})
    layers = {layer_file(layer): _layer(config, f"model.layers.{layer}.") for layer in range(config.shape.layers)}
    return {EMBEDDING: {EMBED: matrix}, **layers, HEAD: head}


def _layer(config: Config, prefix: str) -> Tensors:
    shape = config.shape
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    tensors: Tensors = {
        "input_layernorm.weight": (shape.hidden,),
        "post_attention_layernorm.weight": (shape.hidden,),
        "self_attn.q_proj.weight": (queries, shape.hidden),
        "self_attn.k_proj.weight": (keys, shape.hidden),
        "self_attn.v_proj.weight": (keys, shape.hidden),
        "self_attn.o_proj.weight": (shape.hidden, queries),
        "mlp.gate_proj.weight": (shape.intermediate, shape.hidden),
        "mlp.up_proj.weight": (shape.intermediate, shape.hidden),
        "mlp.down_proj.weight": (shape.hidden, shape.intermediate),
    }
    if config.architecture == "qwen2" or config.attention_bias:
        tensors |= {
            "self_attn.q_proj.bias": (queries,),
            "self_attn.k_proj.bias": (keys,),
            "self_attn.v_proj.bias": (keys,),
        }
    if config.attention_bias:
        tensors |= {"self_attn.o_proj.bias": (shape.hidden,)}
    if config.architecture == "qwen3":
        tensors |= {"self_attn.q_norm.weight": (shape.head_size,), "self_attn.k_norm.weight": (shape.head_size,)}
    return {prefix + name: size for name, size in tensors.items()}
