"""The steps of a session of a node, for the batcher: what the engine is to compute, and what of it is counted."""

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.sessions.stage import Result, Send, SessionState, StageSession, Work
from p2pinfer.core.values.units import Roles
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine.steps import Output, Step


class SessionSteps:
    """slot: the session's number at the engine. uncounted: what was done last, until it is counted"""

    def __init__(self, stage: StageSession, account: StageAccount, slot: int) -> None:
        self.uncounted: tuple[Work, Result] | None = None
        self._stage = stage
        self._account = account
        self._slot = slot
        self._is_tail = Roles.TAIL in stage.terms.roles

    def take(self, count: int) -> tuple[Work, Step]:
        """Work for `count` positions, and the engine's step for it."""
        work, terms = self._stage.take(count), self._stage.terms
        self._account.begin(work.position + work.count)
        draw = terms.sampling.draw if work.sample and terms.sampling is not None else None
        return work, Step(self._slot, work.position, work.data, terms.codec_in, terms.codec_out, draw, terms.span)

    def done(self, work: Work, output: Output) -> list[Send]:
        """Take what the engine computed; return what to send for it."""
        result = Result(output.data, output.ids[0] if output.ids else None)
        if self._stage.state is SessionState.RUNNING:
            self.uncounted = work, result
        return self._stage.done(work, result)

    def count(self) -> None:
        """Count what was done last."""
        assert self.uncounted is not None
        work, result = self.uncounted
        self.uncounted = None
        account, stage = self._account, self._stage
        account.add_inputs(work.position, work.data, work.count)
        if not self._is_tail:
            account.add_outputs(work.position, result.rows, work.count)
        elif result.sampled is not None:
            account.add_outputs(stage.terms.prompt + stage.sampled - 1, pack_ids((result.sampled,)), 1)
        account.commit_step(work.position, work.position + work.count)
