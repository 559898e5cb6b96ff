"""News of the swarm, for whoever waits for some: an offer that is new, a look that is over."""

import trio


class News:
    """Wakes all who wait, again and again. Take `coming` before you look, or you miss what comes meanwhile."""

    def __init__(self) -> None:
        self.coming = trio.Event()

    def tell(self) -> None:
        """Wake everybody who waits."""
        self.coming.set()
        self.coming = trio.Event()
