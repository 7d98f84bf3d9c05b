"""Ray Serve: source LLMs and reward models as deployments."""
