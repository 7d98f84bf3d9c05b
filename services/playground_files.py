"""The files of the playground, as HTTP responses."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import HTMLResponse, Response

CONTENT_SECURITY_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"


def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_read("playground.html"), headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def script() -> Response:
    """Its script."""
    return Response(_read("playground.js"), media_type="text/javascript")


def style() -> Response:
    """Its style sheet."""
    return Response(_read("playground.css"), media_type="text/css")


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")
