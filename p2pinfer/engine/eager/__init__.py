"""The engine in torch: on any device that torch has, operator by operator, or recorded once and replayed.

`span.py` is what the engine asks, `weights.py` fills it from the store's files. Nobody else imports torch.
"""
