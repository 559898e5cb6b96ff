"""The parts of a model: architectures, their switches, and the tensors of each file (protocols/manifest.md, 5).

This is the one description. Import, manifests, both engines and the tests read it, so whoever adds an architecture
adds an entry to ARCHITECTURES; where it has a tensor that the others have not, also a line in `layer_weights` and what
the engines do with its slot (`engine/eager/layers.py`, `engine/native/`). tests/engine/test_reference.py adds one so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple


class Shape(NamedTuple):
    """The sizes of a model, in the order the manifest has them."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int  # positions

    @property
    def queries(self) -> int:
        """Values of all query heads of a position."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Values of all key heads of a position, and as many of all value heads."""
        return self.kv_heads * self.head_size


class Bias(Enum):
    """The projections of attention that have biases."""

    NEVER = auto()
    ALWAYS = auto()  # those of queries, keys and values
    IF_SAID = auto()  # where the config's `attention_bias` is true, that of the output, too


class Window(Enum):
    """The layers in which attention looks back on a window alone, as the config says it."""

    NONE = auto()  # a `sliding_window` is ignored
    ALL = auto()  # all, if `sliding_window` is not null
    SWITCHED = auto()  # if `use_sliding_window`, those that `layer_types` names, or from `max_window_layers` on


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of models that are computed alike.

    name:      in manifests; also Hugging Face's `model_type`
    class_:    Hugging Face's name of the class
    gguf:      llama.cpp's name of it; empty where it has none of its own
    turned:    in GGUF, rows of queries and keys are interleaved for rotary positions
    qk_norms:  each query and key head goes through an RMS norm
    kv_heads:  where the config does not say them; 0 is as many as heads
    head_size: where the config does not say it; 0 is the hidden size over the heads
    """

    name: str
    class_: str
    gguf: str
    turned: bool = False
    bias: Bias = Bias.NEVER
    qk_norms: bool = False
    window: Window = Window.NONE
    kv_heads: int = 0
    head_size: int = 0


_LIST: Final = (
    # llama.cpp calls Mistral llama, and computes it so
    Architecture("llama", "LlamaForCausalLM", "llama", turned=True, bias=Bias.IF_SAID),
    Architecture("mistral", "MistralForCausalLM", "", window=Window.ALL, kv_heads=8),
    Architecture("qwen2", "Qwen2ForCausalLM", "qwen2", bias=Bias.ALWAYS, window=Window.SWITCHED, kv_heads=32),
    Architecture(
        *("qwen3", "Qwen3ForCausalLM", "qwen3"),
        bias=Bias.IF_SAID,
        qk_norms=True,
        window=Window.SWITCHED,
        kv_heads=32,
        head_size=128,
    ),
)
ARCHITECTURES: Final = {architecture.name: architecture for architecture in _LIST}


class Slot(Enum):
    """The place of a tensor in the computation. Those of one slot and layer are one matrix, outputs in their order."""

    EMBEDDING = auto()
    ATTENTION_NORM = auto()
    QKV = auto()  # queries, keys, values
    QKV_BIAS = auto()
    QUERY_NORM = auto()
    KEY_NORM = auto()
    OUTPUT = auto()  # of attention
    OUTPUT_BIAS = auto()
    MLP_NORM = auto()
    GATE = auto()
    UP = auto()
    DOWN = auto()
    FINAL_NORM = auto()
    HEAD = auto()


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of a model.

    name:  Hugging Face's
    gguf:  llama.cpp's
    shape: outputs and inputs, or the values of a vector
    heads: of rows that llama.cpp interleaves where the architecture is `turned`; 0 where it does not
    """

    slot: Slot
    name: str
    gguf: str
    shape: tuple[int, ...]
    heads: int = 0


def layer_weights(architecture: Architecture, shape: Shape, biases: bool, layer: int) -> Iterator[Weight]:
    """The tensors of a layer. biases: the config's `attention_bias`"""
    own = {"name": f"model.layers.{layer}.", "gguf": f"blk.{layer}."}

    def weight(slot: Slot, name: str, gguf: str, *sizes: int, heads: int = 0) -> Weight:
        return Weight(slot, own["name"] + name, own["gguf"] + gguf, sizes, heads)

    hidden, queries, keys = shape.hidden, shape.queries, shape.keys
    said = biases and architecture.bias is Bias.IF_SAID
    yield weight(Slot.ATTENTION_NORM, "input_layernorm.weight", "attn_norm.weight", hidden)
    for letter, size, heads in (("q", queries, shape.heads), ("k", keys, shape.kv_heads), ("v", keys, 0)):
        name, gguf = f"self_attn.{letter}_proj.", f"attn_{letter}."
        yield weight(Slot.QKV, name + "weight", gguf + "weight", size, hidden, heads=heads)
        if said or architecture.bias is Bias.ALWAYS:
            yield weight(Slot.QKV_BIAS, name + "bias", gguf + "bias", size, heads=heads)
    if architecture.qk_norms:
        yield weight(Slot.QUERY_NORM, "self_attn.q_norm.weight", "attn_q_norm.weight", shape.head_size)
        yield weight(Slot.KEY_NORM, "self_attn.k_norm.weight", "attn_k_norm.weight", shape.head_size)
    yield weight(Slot.OUTPUT, "self_attn.o_proj.weight", "attn_output.weight", hidden, queries)
    if said:
        yield weight(Slot.OUTPUT_BIAS, "self_attn.o_proj.bias", "attn_output.bias", hidden)
    yield weight(Slot.MLP_NORM, "post_attention_layernorm.weight", "ffn_norm.weight", hidden)
    yield weight(Slot.GATE, "mlp.gate_proj.weight", "ffn_gate.weight", shape.intermediate, hidden)
    yield weight(Slot.UP, "mlp.up_proj.weight", "ffn_up.weight", shape.intermediate, hidden)
    yield weight(Slot.DOWN, "mlp.down_proj.weight", "ffn_down.weight", hidden, shape.intermediate)


def embedding(shape: Shape) -> Weight:
    """The matrix that turns ids into rows; a tied one turns rows into logits, too."""
    return Weight(Slot.EMBEDDING, "model.embed_tokens.weight", "token_embd.weight", (shape.vocabulary, shape.hidden))


def final_norm(shape: Shape) -> Weight:
    """The norm before the output head."""
    return Weight(Slot.FINAL_NORM, "model.norm.weight", "output_norm.weight", (shape.hidden,))


def output_head(shape: Shape) -> Weight:
    """The matrix that turns rows into logits, where it is not tied to the embedding."""
    return Weight(Slot.HEAD, "lm_head.weight", "output.weight", (shape.vocabulary, shape.hidden))
