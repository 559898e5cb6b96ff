"""Where things are kept: the folders when nobody says otherwise, and the journals in a data folder."""

from pathlib import Path

from platformdirs import user_data_path

from p2pinfer.core.errors import UsageError


def default_data() -> Path:
    """Identity and journal of this machine's node, or of its client."""
    return user_data_path("p2pinfer") / "data"


def default_store() -> Path:
    """Models, shared by the nodes and clients of this machine."""
    return user_data_path("p2pinfer") / "store"


def node_journal(data: Path) -> Path:
    """What a node earns."""
    return data / "journal.sqlite"


def client_journal(data: Path) -> Path:
    """What a client pays."""
    return data / "client.sqlite"


def is_there(path: Path) -> bool:
    """Whether there is a file or folder. Raises UsageError where nobody lets us see."""
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"cannot look at {path}: {error.strerror}") from None
