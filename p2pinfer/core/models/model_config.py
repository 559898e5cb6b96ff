"""A model's numbers, as manifest and engines need them. The file that says them is `config_json.py`'s."""

from dataclasses import dataclass

from p2pinfer.core.models.architecture import (
    Architecture,
    Shape,
    Weight,
    embedding,
    final_norm,
    layer_weights,
    output_head,
)
from p2pinfer.core.models.manifest import EMBEDDING, HEAD, Manifest, layer_file
from p2pinfer.core.models.model_numbers import MAX_WIDTH, check_numbers, check_scaling, check_sizes
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Q8O4_OUTLIERS


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """A stretch of rotary frequencies. linear: all by `factor`; llama3: the slow ones, with a ramp between."""

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192  # positions


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model's numbers.

    Raises ValueError for a number that makes no sense.

    window: positions attended to, the own one included, in every layer; None is all
    tied:   the output head is the embedding
    biases: attention has them, where its architecture asks
    """

    architecture: Architecture
    shape: Shape
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    window: int | None
    tied: bool
    biases: bool

    def __post_init__(self) -> None:
        check_sizes(self.shape)
        if not Q8O4_OUTLIERS <= self.shape.hidden <= MAX_WIDTH:
            raise ValueError(f"a hidden size of {self.shape.hidden}: rows have {Q8O4_OUTLIERS} to {MAX_WIDTH} values")
        check_numbers(self.norm_eps, self.rope_theta, self.window)
        if (scaling := self.rope_scaling) is not None:
            check_scaling(scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_context)

    @property
    def embedding(self) -> Weight:
        """The matrix that turns ids into rows."""
        return embedding(self.shape)

    def layer_weights(self, layer: int) -> tuple[Weight, ...]:
        """The tensors of a layer, by its number in the model."""
        return tuple(layer_weights(self.architecture, self.shape, self.biases, layer))

    @property
    def final_norm(self) -> Weight:
        """The norm before the output head."""
        return final_norm(self.shape)

    @property
    def head(self) -> Weight:
        """The matrix that turns rows into logits."""
        return self.embedding if self.tied else output_head(self.shape)

    @property
    def files(self) -> dict[str, tuple[Weight, ...]]:
        """Every file with tensors, by name, in the order a route needs them."""
        layers = {layer_file(layer): self.layer_weights(layer) for layer in range(self.shape.layers)}
        last = (self.final_norm,) if self.tied else (self.final_norm, self.head)
        return {EMBEDDING: (self.embedding,), **layers, HEAD: last}

    def check_fits(self, model: Manifest) -> None:
        """Raise ModelError where this is not the config of the model with that manifest."""
        ours = self.architecture.name, self.shape, self.tied
        theirs = model.architecture, model.shape, bool(model.tied)
        if ours != theirs:
            raise ModelError(
                f"{model.name}: config.json is of another model than the manifest ({ours}, not {theirs}): whoever made "
                "them made a mistake; import the model from its source"
            )
