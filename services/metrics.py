"""The gateway's Prometheus metrics. Ray exports them (prefix `ray_`) with its own and vLLM's."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

LATENCY_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]
TOKEN_GAP_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]


class GatewayMetrics:
    """The gateway's metrics. Create one object per process."""

    def __init__(self) -> None:
        by_route = ("route", "model")
        self.requests = Counter("fusechat_requests", "Finished requests.", ("route", "model", "status"))
        self.rejected = Counter("fusechat_rejected", "Refused requests.", ("route", "reason"))
        self.tokens = Counter("fusechat_tokens", "Tokens.", ("route", "model", "kind"))
        self.in_flight = Gauge("fusechat_in_flight", "Requests in flight.")
        self.seconds = Histogram("fusechat_request_seconds", "Seconds per request.", LATENCY_BUCKETS, by_route)
        self.first_token = Histogram(
            "fusechat_first_token_seconds", "Seconds until a stream's first token.", LATENCY_BUCKETS, by_route
        )
        self.inter_token = Histogram(
            "fusechat_inter_token_seconds", "Mean seconds between the tokens of a stream.", TOKEN_GAP_BUCKETS, by_route
        )
