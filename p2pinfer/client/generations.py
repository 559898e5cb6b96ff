"""The generations of one client: each waits for its turn, tries routes, and is seen through until it is paid.

How a request becomes ids is in `preparation.py`, which of its routes counts in `tries.py`; a generation itself is
`run.py`.
"""

from collections.abc import Callable, Collection
from functools import partial
from math import inf
from typing import Final

import trio

from p2pinfer.client.answer import AnswerStream
from p2pinfer.client.arrivals import Arrivals
from p2pinfer.client.models import Models
from p2pinfer.client.places import Places, give_back
from p2pinfer.client.preparation import Prepared, encode_prompt
from p2pinfer.client.request import Request
from p2pinfer.client.route_finder import FoundRoute, RouteFinder
from p2pinfer.client.route_links import RouteLinks
from p2pinfer.client.run import Company, Run
from p2pinfer.client.settlement import ClientSettlement
from p2pinfer.client.tries import Tries, Wait
from p2pinfer.core.room.queue import NO_TICKET
from p2pinfer.core.routes.experience import Experience
from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, Unreached
from p2pinfer.core.values.units import SessionId
from p2pinfer.core.wire.session_messages import SessionMessage, SessionRefused
from p2pinfer.disk.store import StoredModel
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.first_peers import FirstPeers
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.reach import reach

REACH_LEAST_S: Final = 10.0  # nodes are dialled so long, however little patience there is
MAX_IN_FLIGHT: Final = 32  # generations of one client at once; more would wait at the nodes, and be refused there


class Generations:
    """Many may run at once; beyond MAX_IN_FLIGHT they wait for their turn.

    max_cost: the price limit of requests that name none; None is the default limit
    """

    def __init__(
        self,
        directory: Directory,
        first_peers: FirstPeers,
        settling: ClientSettlement,
        experience: Experience,
        models: Models,
        nursery: trio.Nursery,
    ) -> None:
        self._purse = settling.purse
        self._network = network = directory.network
        self._exchange = directory.exchange
        self._directory = directory
        self._first_peers = first_peers
        self._settling = settling
        self._models = models
        self._nursery = nursery
        self._finder = RouteFinder(directory, network, experience.failures, experience.measures)
        self._links = RouteLinks(directory, network, experience.measures)
        self._turns = trio.Semaphore(MAX_IN_FLIGHT)
        self._running: set[Run] = set()
        self._settled = trio.Event()  # renewed whenever a generation is over and paid
        self._room = _OwnRoom(self._running)
        self._places: dict[SessionId, Places] = {}  # of requests that try routes, by the sessions that they opened
        self.max_cost: int | None = None
        self.is_closed = False

    async def start(self, request: Request) -> AnswerStream:
        """Wait for a turn, then try routes until one has delivered an id. The turn ends when it is paid.

        Raises as `_first_answering`, and GenerationFailed where the request's time is over before.
        """
        ends = inf if request.timeout is None else trio.current_time() + request.timeout
        with trio.move_on_at(ends):
            return AnswerStream(*await self._started(request), ends)
        raise GenerationFailed(f"no token came within {request.timeout:g} s, its timeout", Code.CANCELLED)

    async def _started(self, request: Request) -> tuple[Run, int]:
        """The generation, and what routes tried before have cost, nano-credits."""
        await self._turns.acquire()
        try:
            trying, running = await self._first_answering(request)
        except BaseException:  # a cancellation too: nobody else would end the turn
            self._turns.release()
            raise
        self._nursery.start_soon(self._end_turn, running)
        return running, trying.lost

    def close(self) -> None:
        """Begin no more, and give up those under way; what was delivered is paid."""
        self.is_closed = True
        for running in self._running:
            running.fail("the client was closed", Code.CANCELLED)

    async def wait_settled(self) -> None:
        """Wait until the receipts of all are signed and stored, or are given up."""
        while self._running:
            await self._settled.wait()

    async def _end_turn(self, running: Run) -> None:
        await running.settled.wait()  # until then its stages keep a window for it
        if running.generation.ids:
            for peer in running.generation.route:
                self._first_peers.book.note_served(peer)
        self._turns.release()

    # Trying routes

    async def _first_answering(self, request: Request) -> tuple[Tries, Run]:
        """Waits for what is missing; but once a stage was opened, its failures are the request's."""
        waiting = Arrivals(self._directory, request.wait_s, request.on_wait)
        model = await self._models.wait(request.model, waiting)
        hides = self._directory.hides(model.id)
        if hides:
            self._first_peers.ear.listen()  # while the prompt is prepared
        prepared = await self._prepare(request, model, waiting)
        if hides:
            await self._first_peers.ear.wait_heard()
        while True:
            await waiting.get(partial(self._check, prepared), model.id)
            trying = self._trying(prepared, waiting)
            running: Run | None = None
            try:
                running = await trying.first_answering()
                return trying, running
            except Unreached as failure:
                if trying.has_tried:
                    raise
                await waiting.rest(failure)
            finally:
                self._give_back(trying.places, running)

    async def _prepare(self, request: Request, model: StoredModel, waiting: Arrivals) -> Prepared:
        scribe = await self._models.scribe(model, waiting)
        words, ids = await scribe.words(), await encode_prompt(request, model, scribe)
        known = await self._purse.journal.read(lambda reader: reader.known_nodes(self._purse.key.public))
        self._directory.note_layers(model.id, model.manifest.layers)
        max_cost = self.max_cost if request.max_cost is None else request.max_cost
        return Prepared(request, model, ids, words, known, max_cost)

    async def _check(self, prepared: Prepared) -> None:
        """Raises NotYet where there is no route, as far as is known now."""
        self._finder.check(prepared.sought, prepared.model.name)
        await trio.lowlevel.checkpoint()

    def _trying(self, prepared: Prepared, waiting: Arrivals) -> Tries:
        """Begin to try routes, which have to be reached while there is patience."""
        until = max(waiting.ends, trio.current_time() + REACH_LEAST_S)
        wait = Wait(self._room, prepared.request.wait_s, waiting.say, until)
        start = partial(self._begin, prepared)
        return Tries(self._finder, self._links, prepared.sought, start, wait, self._network.machine)

    # Places among those who wait for room at nodes

    def take_stray(self, link: Link, message: SessionMessage) -> None:
        """A node says more of a session that it refused. Where nobody of ours waits any more, others do."""
        if not isinstance(message, SessionRefused):
            return  # others hear of it, too
        if (places := self._places.get(message.session)) is not None:
            places.note(link.peer, message)
        elif message.ticket != NO_TICKET:
            give_back(link, message.session)

    def _give_back(self, places: Places, running: Run | None) -> None:
        for session in places.sessions:
            self._places.pop(session, None)
        places.give_back(self._network.link, running.generation.route if running is not None else ())

    # Seeing generations through

    def _begin(self, prepared: Prepared, route: FoundRoute, places: Places, first_id: Callable[[Run], None]) -> Run:
        """Raises as `make_plan` does, and GenerationFailed where the client was closed."""
        if self.is_closed:
            raise GenerationFailed("the client was closed", Code.CANCELLED)
        plan = prepared.plan(self._purse.key, route, self._network.machine).with_ticket(places.ticket)
        nodes, vocabulary = [stage.key for stage in plan.stages], prepared.model.manifest.vocabulary
        generation = Generation(plan.session, 0, prepared.ids, nodes, vocabulary, prepared.ending())
        company = Company(first_id, places.note, self._settling.farewells.keep, partial(reach, self._network))
        running = Run(plan, generation, self._purse, self._network, route.step_s, company)
        self._places[running.plan.session] = places
        places.sessions.add(running.plan.session)
        self._running.add(running)
        self._nursery.start_soon(self._see_through, running, route)
        return running

    async def _see_through(self, running: Run, route: FoundRoute) -> None:
        generation = running.generation
        try:
            with self._exchange.open_session(
                generation.session, generation.route, running.take_message, lambda: generation.over
            ) as deaths:
                await running.run(deaths)
        finally:
            if (times := running.times) is not None:
                self._links.note_answer(route, times)
            try:
                if (account := running.unpaid) is not None:
                    with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
                        await self._settling.remember(generation.session, account, self._network.machine.unix())
            finally:
                self._let_go(running)

    def _let_go(self, running: Run) -> None:
        """It is over, and nothing more is done for it. Others wait for that, also for its room."""
        self._running.discard(running)
        self._settled.set()
        self._settled = trio.Event()
        self._room.note_left(running)


class _OwnRoom:
    """Room that generations of ours have, for requests that were refused for want of it."""

    def __init__(self, running: Collection[Run]) -> None:
        self._running = running
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def is_held(self) -> bool:
        return any(running.holds_room for running in self._running)

    async def wait_left(self) -> None:
        await self._waiting.park()

    def note_left(self, running: Run) -> None:
        """One is over: another may have its room, and all look where none of ours has any."""
        if not self.is_held:
            self._waiting.unpark_all()
        elif running.holds_room:
            self._waiting.unpark()
