"""Import of models into a store. It needs numpy and gguf (the extra `node`), so faces import it when they need it."""

from p2pinfer.disk.importing.sources import Trials, import_model

__all__ = ["Trials", "import_model"]
