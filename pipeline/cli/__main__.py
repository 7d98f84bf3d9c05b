"""`python -m fusechat.pipeline.cli` runs the command line."""

from fusechat.pipeline.cli.main import entry

entry()
