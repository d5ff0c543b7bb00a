"""What KubeRay's operator takes, as far as the templates use it.

Field names, types and required fields are those of KubeRay's reference of ray.io/v1 and its Go types
(ray-operator/apis/ray/v1 in ray-project/kuberay); the pod's are those of Kubernetes core v1. Unknown fields
are
refused: the API server drops them silently, and with them whatever they were to protect.
"""

from typing import Any


def _closed(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}
_QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(m|Mi|Gi)?$"}}
_ENVIRONMENT = {"type": "array", "items": _closed(("name",), name=_TEXT, value={"type": "string"})}
_CONTAINER = _closed(
    ("name", "image", "resources", "securityContext"),
    name=_TEXT,
    image=_TEXT,
    env=_ENVIRONMENT,
    envFrom={
        "type": "array",
        "items": _closed(
            ("secretRef",), secretRef=_closed(("name",), name=_TEXT, optional={"type": "boolean"})
        ),
    },
    ports={
        "type": "array",
        "items": _closed(("containerPort",), containerPort={"type": "integer"}, name=_TEXT),
    },
    resources=_closed(("requests", "limits"), requests=_QUANTITIES, limits=_QUANTITIES),
    securityContext=_closed(
        ("allowPrivilegeEscalation",),
        allowPrivilegeEscalation={"const": False},
        capabilities=_closed(("drop",), drop={"const": ["ALL"]}),
    ),
    volumeMounts={
        "type": "array",
        "items": _closed(("name", "mountPath"), name=_TEXT, mountPath={"type": "string", "pattern": "^/"}),
    },
)
_POD = _closed(
    ("containers", "securityContext"),
    automountServiceAccountToken={"type": "boolean"},
    securityContext=_closed(
        ("runAsNonRoot",),
        runAsNonRoot={"const": True},
        runAsUser={"type": "integer", "minimum": 1},
        fsGroup={"type": "integer"},
        seccompProfile=_closed(("type",), type={"enum": ["RuntimeDefault"]}),
    ),
    containers={"type": "array", "items": _CONTAINER, "minItems": 1},
    volumes={
        "type": "array",
        "items": _closed(
            ("name",), name=_TEXT, persistentVolumeClaim=_closed(("claimName",), claimName=_TEXT)
        ),
    },
)
_TEMPLATE = _closed(("spec",), metadata=_closed(labels=_TEXTS), spec=_POD)
_CLUSTER_SPEC = _closed(
    ("headGroupSpec", "rayVersion", "authOptions"),
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_closed(("mode",), mode={"enum": ["token"]}, secretName=_TEXT),
    enableInTreeAutoscaling={"type": "boolean"},
    headGroupSpec=_closed(
        ("template", "rayStartParams"),
        serviceType={"enum": ["ClusterIP"]},
        rayStartParams=_TEXTS,
        template=_TEMPLATE,
    ),
    workerGroupSpecs={
        "type": "array",
        "minItems": 1,
        "items": _closed(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=_TEXT,
            replicas=_COUNT,
            minReplicas=_COUNT,
            maxReplicas=_COUNT,
            rayStartParams=_TEXTS,
            template=_TEMPLATE,
        ),
    },
)
_METADATA = _closed(("name",), name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"})


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _closed(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )


RAY_CLUSTER = _resource("RayCluster", _CLUSTER_SPEC)
RAY_JOB = _resource(
    "RayJob",
    _closed(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=_TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=_COUNT,
        activeDeadlineSeconds=_COUNT,
        backoffLimit=_COUNT,
        suspend={"type": "boolean"},
        rayClusterSpec=_CLUSTER_SPEC,
    ),
)
