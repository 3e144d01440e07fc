"""The KubeRay manifest: what stands in it is known to KubeRay, to Kubernetes, to Ray Serve and to us.

KubeRay's own schema is a megabyte; here stands the part of it that we use (kuberay,
ray.io_rayservices.yaml, v1: the names of the fields and what is required). Pods and all else go through
Kubernetes' own schemas, strictly.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import infra.cluster
from infra.cluster.loading import settings_of
from infra.cluster.roles import ROLES
from infra.cluster.settings import ClusterSettings
from infra.resuming import front_end_name

jsonschema = pytest.importorskip("jsonschema")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

MANIFEST = Path(infra.cluster.__file__).parent / "kuberay" / "rayservice.yaml"
KUBERNETES = "1.37"


def known(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, NUMBER, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
TEMPLATE = {"type": "object", "required": ["spec"]}
WORKERS = known(
    ("groupName", "maxReplicas", "minReplicas", "template"),
    groupName=TEXT,
    replicas=NUMBER,
    minReplicas=NUMBER,
    maxReplicas=NUMBER,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = known(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling=TRUTH,
    authOptions=known(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    headGroupSpec=known(("template",), rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
RAY_SERVICE = known(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayService"},
    metadata=known(("name",), name=TEXT),
    spec=known(
        upgradeStrategy=known(type={"enum": ["None", "NewCluster"]}),
        deploymentUnhealthySecondThreshold=NUMBER,
        serviceUnhealthySecondThreshold=NUMBER,
        serveConfigV2=TEXT,
        rayClusterConfig=CLUSTER,
    ),
)


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


@pytest.fixture(scope="module")
def service(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[0]


@pytest.fixture(scope="module")
def applications(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    return {application["name"]: application for application in config["applications"]}


def pods(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = service["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]} | {
        name: group["template"] for name, group in groups.items()
    }


def test_kuberay_knows_every_field(service: dict[str, Any]) -> None:
    jsonschema.validate(service, RAY_SERVICE)


def test_a_misspelt_field_would_be_found(service: dict[str, Any]) -> None:
    for spoil in (
        {**service, "spec": {**service["spec"], "serveConfig": ""}},
        {**service, "kind": "RayCluster"},
        {**service, "spec": {**service["spec"], "serveConfigV2": {"applications": []}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoil, RAY_SERVICE)


def test_kubernetes_knows_every_pod_and_all_else(
    documents: list[dict[str, Any]], service: dict[str, Any]
) -> None:
    for document in documents[1:]:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for name, template in pods(service).items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **template.get("metadata", {})},
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(
                {**pod, "spec": {**pod["spec"], "container": []}}, KUBERNETES, strict=True
            )


def test_ray_serve_accepts_the_applications(service: dict[str, Any]) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    config = schema.ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    assert [application.import_path for application in config.applications] == [
        "infra.cluster.application:build"
    ] * 3
    assert config.proxy_location.value == "Disabled"


def test_each_model_is_there_twice_under_the_name_that_front_ends_look_for(
    applications: dict[str, dict[str, Any]],
) -> None:
    assert set(applications) == {f"maya-{role}" for role in ROLES}
    for role in ROLES:
        args = applications[f"maya-{role}"]["args"]
        assert args["role"] == role
        assert ClusterSettings.model_validate(args["cluster"]).replicas(role)[0] >= 2
        assert settings_of(args["models"]).profile == "maya"
        assert set(args["models"]) == set(settings_of(args["models"]).model_fields_set)


def test_the_least_replicas_fit_the_gpus_of_the_least_workers(
    service: dict[str, Any], applications: dict[str, dict[str, Any]]
) -> None:
    wanted = 0.0
    for role in ROLES:
        cluster = ClusterSettings.model_validate(applications[f"maya-{role}"]["args"]["cluster"])
        wanted += cluster.replicas(role)[0] * cluster.gpus(role)
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    gpus = sum(
        group["minReplicas"]
        * int(group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0))
        for group in groups
    )
    assert 0 < wanted <= gpus


def test_the_token_is_on_and_no_container_runs_as_root(service: dict[str, Any]) -> None:
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["authOptions"]["mode"] == "token"
    secret = cluster["authOptions"]["secretName"]
    for template in pods(service).values():
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["runAsNonRoot"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    front = pods(service)["front"]["spec"]["containers"][1]
    token = next(variable for variable in front["env"] if variable["name"] == "RAY_AUTH_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["name"] == secret


def test_the_front_ends_command_is_one_that_maya_knows(
    service: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from infra.cli import app
    from infra.settings import Settings

    seen: list[Settings] = []
    monkeypatch.setattr("infra.server.serve", seen.append)
    front = pods(service)["front"]["spec"]["containers"][1]
    for variable in front["env"]:
        if "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"])
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "secret")
    monkeypatch.setenv("MAYA_PUBLIC_URL", "https://maya.example.com")
    monkeypatch.setenv("MAYA_HOST", "10.1.2.3")
    result = CliRunner().invoke(app, front["command"][1:])
    assert result.exit_code == 0, result.output
    assert seen[0].cluster.address == "maya-head-svc:6379"
    assert seen[0].cluster.replicas("tts") == (2, 2)
    assert front_end_name(seen[0]).startswith("10.1.2.3_8080_")


def test_front_ends_share_a_store_and_are_found_under_their_pods_address(service: dict[str, Any]) -> None:
    front = pods(service)["front"]["spec"]["containers"][1]
    told = {variable["name"]: variable.get("valueFrom") for variable in front["env"]}
    assert told["MAYA_STORE_URL"] == {"secretKeyRef": {"name": "maya", "key": "MAYA_STORE_URL"}}
    assert told["MAYA_HOST"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert "--host" not in front["command"]  # it would win
    image = (MANIFEST.parents[2] / "deploy" / "Dockerfile.cuda").read_text()
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", image, re.MULTILINE)
    assert f"--build-arg EXTRAS={extras},cluster " in MANIFEST.read_text()
