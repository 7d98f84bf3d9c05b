"""Writes what is made: the chart's values.yaml, values.schema.json, README table and dashboard, and k8s/.

    .venv/bin/python helm/generate.py [HELM]     # HELM: the helm to render k8s/ with; without one k8s/ is left alone

Tests hold that all of it is up to date.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from values import Chart, Values

HERE = Path(__file__).parent
CHART = HERE / "fusechat"
ROOT = HERE.parent
MARK = "<!-- values, made by helm/generate.py -->\n"
EXAMPLES = {
    "cpu-demo.yaml": ("cpu-demo.yaml", "demo.yaml"),
    "fusechat3-h100.yaml": ("full-h100.yaml", "fusechat3-llama3.1-8b.yaml"),
}
"""File of k8s/ -> values file of helm/examples/ and recipe that it is rendered from."""


def values_yaml() -> str:
    """values.yaml: each value under its meaning."""
    lines = ["# Made by helm/generate.py from helm/values.py. The second level, what few set, lies under `advanced`."]
    _write(lines, Chart(), 0)
    return "\n".join(lines) + "\n"


def _write(lines: list[str], node: Values, depth: int) -> None:
    pad = "  " * depth
    for name, field in type(node).model_fields.items():
        value = getattr(node, name)
        lines.append(f"{pad}# {_plain(field.description)}")
        if isinstance(value, Values):
            lines.append(f"{pad}{name}:")
            _write(lines, value, depth + 1)
        else:
            lines.append(f"{pad}{name}: {json.dumps(value)}")


def schema() -> dict[str, Any]:
    """values.schema.json, with references resolved: helm 3 knows the older kind only."""
    full = Chart.model_json_schema()
    found: dict[str, Any] = _resolved(full, full.get("$defs", {}))
    found["properties"]["global"] = {"type": "object"}  # helm adds it where the chart is another's part
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found}


def _resolved(node: Any, defs: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_resolved(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        about = {k: v for k, v in node.items() if k == "description"}
        return _resolved(defs[node["$ref"].rsplit("/", 1)[-1]], defs) | about
    return {key: _resolved(value, defs) for key, value in node.items() if key not in ("$defs", "default", "title")}


def table() -> str:
    """The README's table of all values."""
    rows = ["| value | default | meaning |", "|---|---|---|"]

    def walk(node: Values, path: str) -> None:
        for name, field in type(node).model_fields.items():
            value = getattr(node, name)
            if isinstance(value, Values):
                walk(value, f"{path}{name}.")
            else:
                shown = "" if value in ("", [], {}) else f"`{json.dumps(value)}`"
                rows.append(f"| `{path}{name}` | {shown} | {_plain(field.description)} |")

    walk(Chart(), "")
    return "\n".join(rows) + "\n"


def readme() -> str:
    """The chart's README with its table."""
    text = (CHART / "README.md").read_text("utf-8")
    return text[: text.index(MARK) + len(MARK)] + table()


def made() -> dict[Path, str]:
    """Each made file of the chart -> its text."""
    return {
        CHART / "values.yaml": values_yaml(),
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        CHART / "README.md": readme(),
        CHART / "files/dashboard.json": (ROOT / "services/dashboard.json").read_text("utf-8"),
    }


def manifest(helm: str, values: str, recipe: str) -> str:
    """Plain manifests of an example, for `kubectl apply -f`."""
    command = [helm, "template", "fusechat", str(CHART), "--namespace", "fusechat", "--no-hooks"]
    command += [
        "--values",
        str(HERE / "examples" / values),
        "--set-file",
        f"recipe={ROOT / 'pipeline/recipes' / recipe}",
    ]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    objects = [o for o in yaml.safe_load_all(rendered) if o]
    for thing in objects:
        labels = thing["metadata"]["labels"]
        for key in ("app.kubernetes.io/managed-by", "helm.sh/chart"):
            labels.pop(key, None)
    head = f"# Rendered from helm/fusechat with helm/examples/{values} and {recipe} by helm/generate.py.\n"
    return head + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    if len(sys.argv) > 1:
        for name, (values, recipe) in EXAMPLES.items():
            (ROOT / "k8s" / name).write_text(manifest(sys.argv[1], values, recipe), "utf-8")
