"""Every route of the REST service against its own OpenAPI page, with thousands of requests that schemathesis makes up.

`.venv/bin/python tests/bench/service_schema.py [--examples 2000] [--seed 1]`

Fails on any 5xx, on a status or a content type that the page does not name, and on an answer outside its schema.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import serving
import small

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ROUTES = 9


def run(service: serving.Service, examples: int, seed: int) -> tuple[int, int, str]:
    """Exit code, number of requests, what was printed."""
    command = [str(Path(sys.executable).with_name("st")), "run", f"{service.url}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {service.keys['admin']}", "--checks", CHECKS, "--seed", str(seed)]
    command += ["-n", str(examples), "--phases", "examples,coverage,fuzzing", "--no-color", "--request-timeout", "120"]
    command += ["--suppress-health-check", "all"]
    done = subprocess.run(command, cwd=service.folder, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) generated", done.stdout)
    return done.returncode, int(found.group(1)) if found else 0, done.stdout


def main() -> None:
    """Prints the number of requests; exits 1 where one failed, or there were too few."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    with tempfile.TemporaryDirectory() as folder, serving.served(Path(folder)) as service:
        code, num, said = run(service, options.examples // 5, options.seed)
    print(f"{num} requests over {ROUTES} routes: {'all as the page says' if not code else 'see below'}")
    if code or num < options.examples:
        print(said)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
