"""Names of the tensors beside the layers, as Hugging Face has them. A tied head is the embedding."""

from typing import Final

EMBEDDING: Final = "model.embed_tokens.weight"
NORM: Final = "model.norm.weight"
HEAD: Final = "lm_head.weight"
