"""Stands in for a worker on a machine without Landlock."""

print('{"missing": ["landlock"]}', flush=True)
