"""The whole model in one engine, without a swarm: what an answer of the swarm is held to."""

from collections.abc import Sequence

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.errors import EngineError
from p2pinfer.core.values.units import Codec
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.door import Engine
from p2pinfer.engine.process import open_engine
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import shard_spec


async def greedy_ids(store: Store, model: StoredModel, serve: Serve, prompt: Sequence[int], count: int) -> list[int]:
    """The first `count` ids after a prompt; end ids end nothing here.

    Raises ModelError and EngineError as `open_engine` does.
    """
    async with open_engine(shard_spec(store, model, model.manifest.span, serve)) as engine:
        await engine.open_session(1, pages_for(len(prompt) + count))
        ids = [await _step(engine, 0, prompt)]
        while len(ids) < count:
            ids.append(await _step(engine, len(prompt) + len(ids) - 1, ids[-1:]))
        return ids


async def _step(engine: Engine, position: int, ids: Sequence[int]) -> int:
    output = (await engine.step([Step(1, position, pack_ids(ids), Codec.IDS, Codec.IDS, GREEDY)]))[0]
    if output.code:
        raise EngineError(f"the whole model failed at position {position}: {output.text}")
    return output.ids[0]
