"""`python -m intermodal` is the command `intermodal`."""

from intermodal.cli.main import entry

entry()
