"""`python -m p2pinfer` is the command `p2pinfer`."""

from p2pinfer.cli.main import run

run()
