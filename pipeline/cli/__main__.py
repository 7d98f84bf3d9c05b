"""`python -m fusechat.pipeline.cli` runs the command line."""

from .main import entry

entry()
