"""Groups of the command line's commands, one a file; cli.py puts them together."""
