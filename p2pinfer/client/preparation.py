"""The preparation of a request: its prompt becomes ids, and what is asked of a route follows from them.

What was prepared is the same for every route that is tried. Who tries them is `tries.py`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from p2pinfer.client.contracts import Order, Plan, make_plan
from p2pinfer.client.request import CLASSES, CODECS, Request
from p2pinfer.client.route_finder import FoundRoute
from p2pinfer.client.routes import Sought
from p2pinfer.client.scribe import Scribe, Words
from p2pinfer.core.models.detokenizer import Detokenizer
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.values.errors import TooLong, UsageError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import MAX_IDS
from p2pinfer.disk.store import StoredModel
from p2pinfer.overlay.machine import Machine


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to be tried.

    ids:      of the prompt
    words:    the table by which the answer's ids become text
    known:    nodes that have brought this client an answer before
    max_cost: nano-credits; None is the default limit
    """

    request: Request
    model: StoredModel
    ids: tuple[int, ...]
    words: Words
    known: Collection[PeerKey]
    max_cost: int | None

    @property
    def sought(self) -> Sought:
        """The task of a route."""
        request, manifest = self.request, self.model.manifest
        return Sought(
            model=self.model.id,
            layers=manifest.layers,
            hidden=manifest.hidden,
            prompt=len(self.ids),
            tokens=request.max_tokens,
            codec=CODECS[request.codec],
            numerics=CLASSES.get(request.numerics),
            max_cost=self.max_cost,
            proven=self.known,
        )

    def plan(self, key: PrivateKey, route: FoundRoute, machine: Machine) -> Plan:
        """Contracts for a route, signed by the client. Raises as `make_plan` does."""
        request, manifest, prompt = self.request, self.model.manifest, len(self.ids)
        codec = CODECS[request.codec]
        sampling = request.sampling(manifest.draw)
        order = Order(manifest.layers, prompt, sampling, codec, route.most, self.known)
        return make_plan(key, route.stages, order, machine)

    def ending(self) -> Ending:
        """The end of a generation; each has its own. Text after a prompt that was text continues it."""
        request = self.request
        reader = Detokenizer(self.words, request.stop, begins=not isinstance(request.prompt, str))
        return Ending(self.model.manifest.ends, request.max_tokens, reader)


async def encode_prompt(request: Request, model: StoredModel, scribe: Scribe) -> tuple[int, ...]:
    """Raises TooLong where the model does not take so many tokens, UsageError for none; and as the scribe does."""
    if isinstance(request.prompt, str):
        ids = await scribe.encode(request.prompt)
    else:
        ids = await scribe.encode_chat(request.prompt, request.control_tokens, request.template_vars)
    _check_length(model, len(ids), request)
    return ids


def _check_length(model: StoredModel, prompt: int, request: Request) -> None:
    """Raises TooLong with the numbers, and UsageError where there are no tokens."""
    context = model.manifest.context
    if prompt + request.max_tokens > context:
        raise TooLong(
            f"the prompt has {prompt} tokens and {request.max_tokens} are asked for; {model.name} takes {context} "
            f"together: shorten the prompt by {prompt + request.max_tokens - context}, or ask for fewer tokens"
        )
    if prompt > MAX_IDS:
        raise TooLong(
            f"the prompt has {prompt} tokens, and no peer takes more than {MAX_IDS}: shorten it by {prompt - MAX_IDS}"
        )
    if not prompt:
        raise UsageError("the prompt has no tokens")
