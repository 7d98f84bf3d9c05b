"""Ray Serve: source LLMs, reward models and the REST service as deployments."""
