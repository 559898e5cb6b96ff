"""The steps of a session of a node, for the batcher: what the engine is to compute, and what of it is counted."""

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.sessions.stage import Send, SessionState, StageSession
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.units import Roles
from p2pinfer.core.wire.session_messages import pack_ids


class SessionSteps:
    """slot: the session's number at the engine. uncounted: what was done last, until it is counted"""

    def __init__(self, stage: StageSession, account: StageAccount, slot: int) -> None:
        self.uncounted: tuple[Step, Output] | None = None
        self._stage = stage
        self._account = account
        self._slot = slot
        self._is_tail = Roles.TAIL in stage.terms.roles

    def take(self, count: int) -> Step:
        """The step of the next `count` positions."""
        step = self._stage.take(count, self._slot)
        self._account.begin(step.position + count)
        return step

    def done(self, step: Step, output: Output) -> list[Send]:
        """Take what the engine computed; return what to send for it."""
        if self._stage.state is SessionState.RUNNING:
            self.uncounted = step, output
        return self._stage.done(step, output)

    def count(self) -> None:
        """Count what was done last; nothing was done since."""
        assert self.uncounted is not None
        (step, output), self.uncounted = self.uncounted, None
        account, stage = self._account, self._stage
        first, last = step.position, stage.computed
        account.add_inputs(first, step.data, last - first)
        if not self._is_tail:
            account.add_outputs(first, output.data, last - first)
        elif output.ids:
            account.add_outputs(stage.terms.prompt + stage.sampled - 1, pack_ids(output.ids), 1)
        account.commit_step(first, last)
