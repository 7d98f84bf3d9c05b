"""The gateway's Prometheus metrics, exported by Ray beside its own and vLLM's (prefix `ray_`)."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

LATENCIES = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]
GAPS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]


class GatewayMetrics:
    """What the gateway counts; one object a process."""

    def __init__(self) -> None:
        by_route = ("route", "model")
        self.requests = Counter("fusechat_requests", "Requests that ended.", ("route", "model", "status"))
        self.rejected = Counter("fusechat_rejected", "Requests that were refused.", ("route", "reason"))
        self.tokens = Counter("fusechat_tokens", "Tokens.", ("route", "model", "kind"))
        self.in_flight = Gauge("fusechat_in_flight", "Requests under way.")
        self.seconds = Histogram("fusechat_request_seconds", "Seconds a request.", LATENCIES, by_route)
        self.first_token = Histogram(
            "fusechat_first_token_seconds", "Seconds until a stream's first token.", LATENCIES, by_route
        )
        self.inter_token = Histogram(
            "fusechat_inter_token_seconds", "Mean seconds between the tokens of a stream.", GAPS, by_route
        )
