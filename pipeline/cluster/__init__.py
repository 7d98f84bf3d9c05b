"""The Ray cluster: how to connect to it, what fits on it, and jobs that run on it."""
