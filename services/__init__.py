"""Ray Serve: source LLMs, reward models and the REST service as deployments."""

APP = "fusechat"
"""Name of the REST service's Serve application."""
