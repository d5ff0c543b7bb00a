"""Many entities of one run, in as few requests as MLflow's limits allow."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunTag

if TYPE_CHECKING:
    from mlflow import MlflowClient

# mlflow/utils/validation.py: at most 1000 entities per request, 100 params and 100 tags among them, at most 1
# MB in all, 6000 characters per param and 8000 per tag.
_ENTITIES = 1000
_PARAMS = _TAGS = 100
_BYTES = 900_000
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 8000
_METRIC_BYTES = 200  # a metric has no long text: its key, three numbers, and the names of its model and data


def log_in_batches(
    client: "MlflowClient",
    run_id: str,
    *,
    metrics: Iterable[Metric] = (),
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
) -> None:
    """Log metrics, parameters and tags of a run.

    Args:
        client: client of the server.
        run_id: id of the run.
        metrics: any number of metrics.
        params: parameters; values are written with `str` and cut where they are too long for MLflow.
        tags: tags, written like parameters.
    """
    entities: list[Metric | Param | RunTag] = []
    entities += [Param(key, param_text(value)) for key, value in (params or {}).items()]
    entities += [RunTag(key, cut(str(value), TAG_CHARACTERS)) for key, value in (tags or {}).items()]
    entities += metrics
    for batch in _packed(entities):
        client.log_batch(
            run_id,
            metrics=[entity for entity in batch if isinstance(entity, Metric)],
            params=[entity for entity in batch if isinstance(entity, Param)],
            tags=[entity for entity in batch if isinstance(entity, RunTag)],
        )


def param_text(value: object) -> str:
    """Return a parameter's value as MLflow keeps it."""
    return cut(str(value), PARAM_CHARACTERS)


def cut(text: str, limit: int) -> str:
    """Shorten a text to at most `limit` characters, with an ellipsis where something is cut off."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _packed(entities: list[Metric | Param | RunTag]) -> Iterable[list[Metric | Param | RunTag]]:
    batch: list[Metric | Param | RunTag] = []
    params = tags = size = 0
    for entity in entities:
        cost = _METRIC_BYTES if isinstance(entity, Metric) else 300 + _json_bytes(entity.value)
        full = len(batch) == _ENTITIES or size + cost > _BYTES
        full |= isinstance(entity, Param) and params == _PARAMS
        full |= isinstance(entity, RunTag) and tags == _TAGS
        if full:
            yield batch
            batch, params, tags, size = [], 0, 0, 0
        batch.append(entity)
        size += cost
        params += isinstance(entity, Param)
        tags += isinstance(entity, RunTag)
    if batch:
        yield batch


def _json_bytes(text: str) -> int:
    # the request is JSON in ASCII: a character outside it takes six bytes, a quote or line end two
    return sum(1 if " " <= c <= "~" and c not in '"\\' else 6 for c in text)
