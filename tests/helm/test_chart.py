"""What the chart makes of a recipe, what it refuses, and what it keeps closed; each test reads as a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import CHART, ROOT, Object, given, helm, objects, only, ray_cluster

from fusechat.pipeline.cluster.needs import serving_needs
from fusechat.pipeline.cluster.placement import place
from fusechat.pipeline.recipe import OwnReward
from fusechat.pipeline.recipe.load import load

FULL = ROOT / "pipeline/recipes/fusechat3-llama3.1-8b.yaml"


def groups(thing: Object) -> dict[str, Object]:
    return {g["groupName"]: g for g in ray_cluster(thing)["workerGroupSpecs"]}


def gpus(group: Object) -> int:
    return int(group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0))


def refused(tmp_path: Path, *options: str, example: str = "minimal", **changes: Any) -> str:
    """What helm says where it refuses the example with these changes to the recipe, in one line."""
    recipe = yaml.safe_load(FULL.read_text()) | changes
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = helm("helm4", "template", "fusechat", str(CHART), *given(example), "--set-file", f"recipe={file}", *options)
    assert done.returncode != 0, "it was not refused"
    return " ".join(done.stderr.split())


def sources(**changes: Any) -> list[Any]:
    """The recipe's sources, the first of them changed."""
    found: list[Any] = yaml.safe_load(FULL.read_text())["sources"]
    found[0] = found[0] | changes
    return found


# --- what follows from the recipe


def test_renders_one_worker_group_per_source_and_reward_model() -> None:
    recipe = load(FULL)
    found = groups(only(objects("minimal"), "RayService"))
    models = [f"source:{s.name}" for s in recipe.served]
    models += [f"reward:{r.name}" for r in recipe.rewards if isinstance(r, OwnReward)]
    assert [json.loads(json.loads(g["rayStartParams"]["resources"])) for g in found.values()] == [
        {m: 1} for m in models
    ]


def test_a_pod_has_the_gpus_of_one_replica() -> None:
    recipe = load(FULL)
    found = list(groups(only(objects("minimal"), "RayService")).values())
    for source, group in zip(recipe.served, found, strict=False):
        assert gpus(group) == source.engine.tensor_parallel_size * source.engine.pipeline_parallel_size


def test_a_classifier_has_a_worker_group_of_its_own(tmp_path: Path) -> None:
    recipe = yaml.safe_load(FULL.read_text())
    placement = {"num_gpus": 1, "num_cpus": 3, "memory_gb": 90}
    classifier = {"name": "skywork", "kind": "classifier", "model": {"hub": "a/b", "revision": "main"}}
    recipe["rewards"].append(classifier | {"placement": placement})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = helm("helm4", "template", "f", str(CHART), *given("minimal"), "--set-file", f"recipe={file}")
    group = groups(only(list(yaml.safe_load_all(done.stdout)), "RayService"))["reward-skywork"]
    assert json.loads(json.loads(group["rayStartParams"]["resources"])) == {"reward:skywork": 1}
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 1)
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["cpu"], limits["memory"]) == ("1", "4", "90Gi")
    (need,) = [n for n in serving_needs(load(file)) if n.name == "skywork"]
    assert place([need], [{"CPU": 4, "GPU": 1, "memory": 90 * 2**30}])


def test_each_group_holds_what_its_model_asks_for() -> None:
    recipe = load(FULL)
    found = list(groups(only(objects("minimal"), "RayService")).values())
    needs = [n for n in serving_needs(recipe) if n.name != "evaluate"]
    for need, group in zip(needs, found, strict=True):
        cpu = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        assert place([need], [{"CPU": cpu, "GPU": gpus(group)}] * group["minReplicas"]), need.name


def test_a_jobs_cluster_holds_every_stage_of_the_recipe() -> None:
    from fusechat.pipeline.cluster.needs import check_capacity

    for example, recipe in (("kueue", FULL), ("cpu-demo", ROOT / "pipeline/recipes/demo.yaml")):
        (group,) = groups(only(objects(example), "RayJob")).values()
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        node = {"CPU": float(limits["cpu"]), "GPU": gpus(group)}
        loaded = load(recipe)
        check_capacity(loaded, [node] * group["replicas"])


@pytest.mark.parametrize("example", ["cpu-demo", "full-h100"])
def test_rays_object_store_lies_in_shared_memory_and_leaves_some(example: str) -> None:
    for kind in ("RayService", "RayJob"):
        cluster = ray_cluster(only(objects(example), kind))
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            (shared,) = [v["emptyDir"]["sizeLimit"] for v in group["template"]["spec"]["volumes"] if v["name"] == "shm"]
            size = int(shared.removesuffix("Gi")) * 2**30
            assert int(group["rayStartParams"]["object-store-memory"]) == size * 3 // 4


def test_replica_bounds_are_those_of_the_placement(tmp_path: Path) -> None:
    recipe = yaml.safe_load(FULL.read_text())
    recipe["sources"] = sources(placement={"num_gpus": 1, "min_replicas": 0, "max_replicas": 3})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    done = helm("helm4", "template", "f", str(CHART), *given("minimal"), "--set-file", f"recipe={file}")
    found = groups(only(list(yaml.safe_load_all(done.stdout)), "RayService"))["source-gemma-2-27b-it"]
    assert [found[k] for k in ("minReplicas", "replicas", "maxReplicas")] == [0, 0, 3]


def test_the_recipe_is_mounted_as_it_was_given() -> None:
    mounted = next(o for o in objects("minimal") if "recipe.yaml" in o.get("data", {}))["data"]["recipe.yaml"]
    assert yaml.safe_load(mounted) == yaml.safe_load(FULL.read_text())
    assert mounted.strip() == FULL.read_text().strip()


def test_an_accelerator_of_the_recipe_chooses_the_nodes(tmp_path: Path) -> None:
    recipe = yaml.safe_load(FULL.read_text())
    recipe["sources"] = sources(placement={"num_gpus": 1, "accelerator_type": "H100"})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    done = helm("helm4", "template", "f", str(CHART), *given("minimal"), "--set-file", f"recipe={file}")
    found = groups(only(list(yaml.safe_load_all(done.stdout)), "RayService"))["source-gemma-2-27b-it"]
    assert found["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


# --- what is refused, before anything is installed


def test_refuses_more_gpus_than_a_node_has(tmp_path: Path) -> None:
    engine = {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}
    said = refused(tmp_path, sources=sources(engine=engine))
    assert "source gemma-2-27b-it takes 16 GPUs on one node" in said and "gpus.perNode" in said


def test_refuses_a_source_that_no_group_can_hold(tmp_path: Path) -> None:
    said = refused(tmp_path, sources=sources(placement={"num_gpus": 1, "accelerator_type": "TPU-V5"}))
    assert "accelerator_type TPU-V5, which no worker group can hold" in said


def test_refuses_two_kinds_of_nodes_in_one_job(tmp_path: Path) -> None:
    found = sources(placement={"num_gpus": 1, "accelerator_type": "H100"})
    found[1] = found[1] | {"placement": {"num_gpus": 1, "accelerator_type": "L4"}}
    assert "one kind of node" in refused(tmp_path, sources=found, example="kueue")


def test_refuses_an_upgrade_for_which_there_are_no_gpus(tmp_path: Path) -> None:
    said = refused(tmp_path, "--set", "gpus.total=30")
    assert "service.upgrade.type: NewCluster starts 23 GPUs beside the 23 that run, there are 30" in said


def test_refuses_a_fleet_for_which_there_are_no_gpus(tmp_path: Path) -> None:
    assert "the recipe needs 23 GPUs (service 23, jobs 0), there are 8" in refused(tmp_path, "--set", "gpus.total=8")


@pytest.mark.parametrize(
    "options, said",
    [
        (("apiKeys.secretName=",), "apiKeys.secretName: the service needs a secret"),
        (("hub.tokenSecretName=",), "hub.tokenSecretName: the recipe has hub models"),
        (("hub.access=offline",), "storage.models.existingClaim: with hub.access: offline"),
        (("advanced.ingress.enabled=true",), "advanced.ingress.host"),
        (("advanced.ingress.enabled=true", "advanced.ingress.host=a.b"), "advanced.ingress.tlsSecretName"),
        (("mode=jobs", "jobs.training.enabled=true"), "both write the same run directory"),
        (("mode=jobs", "jobs.pipeline.enabled=false"), "jobs: none is enabled"),
        (("mode=both", "gpus.total=24"), "needs 31 GPUs (service 23, jobs 8)"),
        (("advanced.workers.groups.nobody.affinity.x=y",), "nobody is not one of the groups"),
    ],
)
def test_refuses_what_is_missing_or_contradicts(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refused(tmp_path, *(word for option in options for word in ("--set", option)))


@pytest.mark.parametrize(
    "option",
    ["mod=service", "image.repo=x", "advanced.head.resource.cpu=1", "mode=all", "gpus.perNode=0", "gpus.perNode=many",
     "image.digest=sha256:12", "service.upgrade.type=Rolling", "jobs.pipeline.commands={pretend}"],
)  # fmt: skip
@pytest.mark.parametrize("which", ["helm4", "helm3"])
def test_refuses_unknown_and_wrong_values(option: str, which: str) -> None:
    done = helm(which, "template", "fusechat", str(CHART), *given("minimal"), "--set", option)
    assert done.returncode != 0 and "schema" in done.stderr


@pytest.mark.parametrize("text", ["", "a: [", "- 1\n", "name: x\n"])
def test_refuses_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    file = f"recipe={tmp_path / 'r.yaml'}"
    done = helm("helm4", "template", "fusechat", str(CHART), *given("minimal"), "--set-file", file)
    assert done.returncode != 0 and "recipe" in done.stderr


def test_refuses_a_run_directory_that_a_shell_would_read(tmp_path: Path) -> None:
    assert "goes into a command line" in refused(tmp_path, run_dir="x; true")


def test_refuses_a_source_whose_key_is_nowhere(tmp_path: Path) -> None:
    endpoint = {"name": "far", "kind": "endpoint", "url": "https://x/v1", "model": "m", "api_key_env": "FAR_KEY"}
    said = refused(tmp_path, sources=[*sources(), endpoint | {"samples": {"math": 1}}])
    assert "source far reads its key from FAR_KEY" in said


TRAINING = "jobs.pipeline.enabled=false,jobs.training.enabled=true"
SAMPLING = "jobs.training.enabled=false,jobs.pipeline.commands={prompts,sample,score,select}"


@pytest.mark.parametrize(
    ("left_out", "jobs", "steps"),
    [
        (("sources", "dpo"), TRAINING, ["sft", "evaluate", "report"]),
        (("target", "sft", "dpo"), TRAINING, ["report"]),
        (("dpo",), SAMPLING, ["prompts", "select"]),
    ],
)
def test_a_job_has_the_steps_that_its_recipe_calls_for_and_a_service_needs_sources(
    tmp_path: Path, left_out: tuple[str, ...], jobs: str, steps: list[str]
) -> None:
    text = (ROOT / "pipeline/recipes/begin-with-pairs.yaml").read_text()
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(text).items() if k not in left_out}))
    options = ["--set-file", f"recipe={file}", "--set", jobs]
    done = helm("helm4", "template", "fusechat", str(CHART), *given("minimal"), *options, "--set", "mode=jobs")
    assert (done.returncode, done.stderr) == (0, "")
    job = only([o for o in yaml.safe_load_all(done.stdout) if o], "RayJob")
    assert [step.split()[1] for step in job["spec"]["entrypoint"].split(" && ")] == steps
    assert set(steps) <= set(load(file).stages)  # what the command itself would refuse
    done = helm("helm4", "template", "fusechat", str(CHART), *given("minimal"), *options, "--set", "mode=both")
    assert "recipe: sources is required" in done.stderr


# --- what stays as it is


def test_a_change_of_chart_version_or_labels_changes_no_ray_pod(tmp_path: Path) -> None:
    other = tmp_path / "fusechat"
    shutil.copytree(CHART, other)
    file = other / "Chart.yaml"
    file.write_text(file.read_text().replace("0.1.0", "9.9.9"))
    done = helm("helm4", "template", "fusechat", str(other), *given("full-h100"))
    changed = [o for o in yaml.safe_load_all(done.stdout) if o]
    before = objects("full-h100")
    assert only(changed, "RayService")["metadata"] != only(before, "RayService")["metadata"]
    for kind in ("RayService", "RayJob"):
        assert only(changed, kind)["spec"] == only(before, kind)["spec"]


def test_volumes_outlive_the_release() -> None:
    claims = [o for o in objects("minimal") if o["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == 2
    assert all(c["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for c in claims)


# --- what stays closed


@pytest.mark.parametrize("example", ["minimal", "full-h100", "cpu-demo", "kueue"])
def test_every_container_is_confined(example: str) -> None:
    pods = [o["spec"] for o in objects(example) if o["kind"] == "Pod"]
    for thing in objects(example):
        if thing["apiVersion"].startswith("ray.io/"):
            cluster = ray_cluster(thing)
            pods += [g["template"]["spec"] for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]} and not security["privileged"]
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_dashboard_is_reached_by_the_operator_alone() -> None:
    found = objects("service-only")
    assert ray_cluster(only(found, "RayService"))["headGroupSpec"]["serviceType"] == "ClusterIP"
    ports = {"Ingress": 8000, "HTTPRoute": 8000}
    backend = only(found, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["port"]["number"] == ports["Ingress"]
    assert only(found, "HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]["port"] == ports["HTTPRoute"]
    for rule in only(found, "NetworkPolicy")["spec"]["ingress"]:
        if 8265 in [p["port"] for p in rule.get("ports", [])]:
            assert rule["from"] == [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-operator"}}}
            ]


def test_keys_are_required_and_come_from_the_secret() -> None:
    service = only(objects("minimal"), "RayService")
    args = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    assert "serve.keys=/etc/fusechat/keys/keys.yaml" in args["set"]
    for template in (ray_cluster(service)["headGroupSpec"], *ray_cluster(service)["workerGroupSpecs"]):
        volumes = {v["name"]: v for v in template["template"]["spec"]["volumes"]}
        assert volumes["keys"]["secret"]["secretName"] == "fusechat-keys"


def test_no_secret_stands_in_a_manifest() -> None:
    for thing in objects("full-h100"):
        assert thing["kind"] != "Secret"


def test_kueue_finds_its_job_suspended() -> None:
    job = only(objects("kueue"), "RayJob")
    assert job["spec"]["suspend"] and job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"


# --- what is made


def test_what_is_made_is_up_to_date() -> None:
    import generate

    for path, text in generate.made().items():
        assert path.read_text("utf-8") == text, f"{path}: run helm/generate.py"


def test_plain_manifests_are_up_to_date() -> None:
    import generate
    from charts import fetched

    program = str(fetched("helm4"))
    assert {f.name for f in (ROOT / "k8s").iterdir()} == set(generate.EXAMPLES)
    for name, (values, recipe) in generate.EXAMPLES.items():
        made = generate.manifest(program, values, recipe)
        assert (ROOT / "k8s" / name).read_text("utf-8") == made, f"k8s/{name}: run helm/generate.py HELM"
