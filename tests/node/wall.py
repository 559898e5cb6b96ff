"""A clock on the wall, for tests."""


class Wall:
    """A time of day that stands still until a test sets it."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.now = now

    def unix(self) -> int:
        return self.now
