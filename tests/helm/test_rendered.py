"""What the chart renders, for eight values files, under helm 4 and helm 3: valid by everyone who will read it."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from charts import CHART, EXAMPLES, HELMS, ROOT, Object, given, helm, objects, ray_cluster, rendered
from typer.testing import CliRunner

from fusechat.pipeline.cli.main import app

SCHEMAS = ROOT.parent / "shared/kuberay"
NAMES = sorted(file.stem for file in EXAMPLES.glob("*.yaml"))
VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35")
OWN_GROUPS = ("ray.io/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")
"""Kinds that Kubernetes itself doesn't know."""

everything = pytest.mark.parametrize("name", NAMES)
both = pytest.mark.parametrize("which", list(HELMS))


def test_there_are_eight_examples() -> None:
    assert len(NAMES) >= 8


@both
@everything
def test_lints_renders_and_packages_without_a_warning(which: str, name: str, tmp_path: Path) -> None:
    done = helm(which, "lint", "--strict", str(CHART), *given(name))
    assert done.returncode == 0 and "1 chart(s) linted, 0 chart(s) failed" in done.stdout, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    assert rendered(which, name)  # holds that standard error is empty
    done = helm(which, "package", str(CHART), "--destination", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "") and list(tmp_path.glob("fusechat-*.tgz"))


@everything
def test_both_helms_render_the_same(name: str) -> None:
    assert objects(name, which="helm3") == objects(name, which="helm4")


@everything
def test_core_objects_are_valid_in_every_kubernetes(name: str) -> None:
    core = [o for o in objects(name) if not o["apiVersion"].startswith(OWN_GROUPS)]
    assert len(core) >= 3
    for thing in core:
        for version in VERSIONS:
            kubernetes_validate.validate(thing, version, strict=True)


@everything
def test_pod_templates_of_ray_are_valid_pods(name: str) -> None:
    for thing in ray_objects(name):
        for template in templates(thing):
            pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "p", **template["metadata"]}}
            kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


def ray_objects(name: str) -> list[Object]:
    return [o for o in objects(name) if o["apiVersion"].startswith("ray.io/")]


def templates(thing: Object) -> list[Object]:
    cluster = ray_cluster(thing)
    return [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])]


@everything
def test_ray_objects_pass_the_operators_schemas(name: str) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip("the operator's schemas are not there (../shared/kuberay)")
    for thing in ray_objects(name):
        schema = json.loads((SCHEMAS / f"{thing['kind'].lower()}s.v1.schema.json").read_text())
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(thing))
        assert not errors, errors[0]


@everything
def test_ray_objects_keep_the_rules_that_no_schema_holds(name: str) -> None:
    for thing in ray_objects(name):
        spec, cluster = thing["spec"], ray_cluster(thing)
        assert jsonschema.Draft202012Validator({"pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}).is_valid(
            thing["metadata"]["name"]
        )
        for group in cluster["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert "readinessProbe" not in group["template"]["spec"]["containers"][0]  # the operator's own stays
        if thing["kind"] == "RayJob":
            assert spec["submissionMode"] in ("HTTPMode", "K8sJobMode", "SidecarMode")
            assert spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
            assert spec["backoffLimit"] >= 0 and "clusterSelector" not in spec
        else:
            kinds = ("NewCluster", "None", "NewClusterWithIncrementalUpgrade")
            assert spec["upgradeStrategy"]["type"] in kinds


@everything
def test_serve_configs_pass_rays_schema_and_name_the_application(name: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    for thing in ray_objects(name):
        if thing["kind"] == "RayService":
            config = ServeDeploySchema.model_validate(yaml.safe_load(thing["spec"]["serveConfigV2"]))
            (application,) = config.applications
            module, _, function = application.import_path.partition(":")
            assert callable(getattr(importlib.import_module(module), function))
            assert set(application.args) == {"recipe", "groups", "set"}


@everything
def test_every_command_in_a_manifest_exists(name: str) -> None:
    found = []
    for thing in ray_objects(name):
        if thing["kind"] == "RayJob":
            found += [shlex.split(step) for step in thing["spec"]["entrypoint"].split(" && ")]
        for template in templates(thing):
            found += [c["command"] for c in template["spec"].get("initContainers", [])]
    assert found or name == "air-gapped"
    for program, command, *rest in found:
        assert program == "fusechat"
        said = CliRunner().invoke(app, [command, "--help"]).output
        assert all(option in said for option in rest if option.startswith("--")), (command, rest)


@everything
def test_changes_in_a_manifest_are_settings_of_the_recipe(name: str) -> None:
    from charts import recipe_of

    from fusechat.pipeline.recipe.load import load

    for thing in ray_objects(name):
        if thing["kind"] == "RayService":
            changes = yaml.safe_load(thing["spec"]["serveConfigV2"])["applications"][0]["args"]["set"]
        else:
            words = shlex.split(thing["spec"]["entrypoint"].split(" && ")[0])
            changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        recipe = load(recipe_of(name), tuple(changes))
        assert recipe.run_dir.startswith("/runs/")


@everything
def test_rays_autoscaler_sees_what_each_group_offers(name: str) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    for thing in ray_objects(name):
        cluster = {"metadata": {"name": "c", "namespace": "n"}, "spec": ray_cluster(thing)}
        types: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
        assert types["headgroup"]["resources"]["CPU"] == 0
        for group in ray_cluster(thing)["workerGroupSpecs"]:
            offered = types[group["groupName"]]["resources"]
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            assert offered["CPU"] == int(limits["cpu"])
            assert offered.get("GPU", 0) == int(limits.get("nvidia.com/gpu", 0))
            if thing["kind"] == "RayService":
                assert [k for k in offered if k.startswith(("source:", "reward:"))]
