"""Places of things: the folders when nobody says otherwise, and the journals in a data folder."""

import os
from pathlib import Path

from platformdirs import user_data_path

from p2pinfer.core.values.errors import UsageError
from p2pinfer.system import user_id


def default_data() -> Path:
    """Identity and journal of this machine's node, or of its client."""
    return user_data_path("p2pinfer") / "data"


def default_store() -> Path:
    """Models, shared by the nodes and clients of this machine."""
    return user_data_path("p2pinfer") / "store"


def runtime_folders() -> list[Path]:
    """Return where this user's folder for what runs may be: as the session says, and as systems are used to.

    Nobody promises that they are there, or this user's: `su` and `sudo` may keep what another's session says.
    """
    said = os.environ.get("XDG_RUNTIME_DIR", "")
    return [*([Path(said)] if said.startswith("/") else []), Path(f"/run/user/{user_id()}")]


def node_journal(data: Path) -> Path:
    """The journal of a node's earnings."""
    return data / "journal.sqlite"


def node_boots(data: Path) -> Path:
    """The starts of a node."""
    return data / "boots"


def node_ports(data: Path) -> Path:
    """The ports that a node took where it was free to take any."""
    return data / "ports"


def node_served(data: Path) -> Path:
    """The file that counts the bytes of a node's files that peers had today."""
    return data / "served"


def node_network(data: Path) -> Path:
    """The network as a node last saw it."""
    return data / "network.json"


def client_journal(data: Path) -> Path:
    """The journal of payments by this machine's clients."""
    return data / "client.sqlite"


def address_book(data: Path) -> Path:
    """The peers that this machine's nodes and clients met."""
    return data / "peers.json"


def client_experience(data: Path) -> Path:
    """The file of what this machine's clients learnt of nodes."""
    return data / "nodes.json"


def node_lock(data: Path) -> Path:
    """Held by the node that uses the folder."""
    return data / "node.lock"


def node_addresses(data: Path) -> Path:
    """The file of the addresses where clients of this machine meet the node that runs here."""
    return data / "node.addresses"


def is_there(path: Path) -> bool:
    """There is a file or folder at the path. Raises UsageError where nobody lets us see."""
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"cannot look at {path}: {error.strerror}") from None
