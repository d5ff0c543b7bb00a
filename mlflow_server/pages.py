"""Defaults of MLflow's pages, for people who chose nothing yet: sweeps, and no closed services.

MLflow keeps such choices in the browser. By default it shows its views for language models, an assistant over
a quarter of the page and advertisements, and no setting of its server changes that. So its one HTML page gets
a script that answers in place of a choice that was never made. Nothing is stored, and what a person chooses
takes effect from then on.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# The runs table with the widths of its columns: a sweep's results come first, after its name and the time of
# its creation, which MLflow keeps in front.
COLUMNS = {
    "metrics.`hypervolume`": 100,
    "metrics.`best_params`": 105,
    "metrics.`best_accuracy`": 115,
    "attributes.`Description`": 340,
    "attributes.`Models`": 160,
}
_OWN_COLUMNS = {"attributes.`Run Name`": 300, "runDateAndNestInfo": 150}
_POINT = ("accuracy", "macro_f1", "loss", "params", "macs", "ratio")
# Former names of the "proposed" metrics; queries still find members by them.
FORMER_METRICS = tuple(f"asked_{name}" for name in _POINT)
# Single numbers: as charts they would be one bar or one dot each, among and before the curves.
SINGLE_METRICS = (
    *FORMER_METRICS,
    *(f"{point}_{name}" for point in ("dense", "proposed") for name in _POINT),
    *(f"seconds_{step}" for step in ("train", "spectra", "evaluate", "recover")),
    *(
        f"best_{name}"
        for name in ("macro_f1", "loss", "macs", "dense_ratio", "test_accuracy", "test_macro_f1")
    ),
    *(f"reference_{name}" for name in ("params", "accuracy", "test_accuracy")),
    *("dense_test_accuracy", "final_hypervolume", "fixed_hypervolume", "weight_energy_hypervolume"),
    *("hypervolume_without_fixed", "hypervolume_without_weight_energy"),
)


def _without_charts(metrics: Sequence[str]) -> dict[str, object]:
    """Mark charts of metrics as deleted: MLflow then makes none of them, and one of every other metric."""
    section = {"uuid": "model-metrics", "name": "Model metrics", "display": True, "isGenerated": True}
    charts = [
        {
            "uuid": f"single-{name}",
            "type": "BAR",
            "runsCountToCompare": 10,
            "metricSectionId": section["uuid"],
            "deleted": True,
            "isGenerated": True,
            "displayName": name,
            "metricKey": name,
        }
        for name in metrics
    ]
    return {
        "compareRunCharts": charts,
        "compareRunSections": [{**section, "isReordered": False, "deleted": False}],
        "isAccordionReordered": False,
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


_TABLE = {
    "selectedColumns": list(COLUMNS),
    "columnOrder": [*_OWN_COLUMNS, *COLUMNS],
    "columnWidths": _OWN_COLUMNS | COLUMNS,
    **_without_charts(FORMER_METRICS),
}
# Each under a pattern of the name by which the browser would keep the choice.
_CHOICES: dict[str, object] = {
    r"mlflow\.workflowType_v1": "machine_learning",
    r"mlflow\.home\.getting-started\.collapsed_v1": True,  # a demonstration that is closed
    r"mlflow\.telemetry\.info\.alert\.dismissed_v1": True,  # nothing is collected here
    r"_mlflow_model_registry_promo_modal_dismissed_v1": True,
    r"MLflowLocalStorage-[\d.]+-ExperimentPage-\[.*\]-ReactComponentState": _TABLE,
    r"MLflowLocalStorage-[\d.]+-RunPage-\w+-model-chartUIState": _without_charts(SINGLE_METRICS),
}
# Whatever is stored: MLflow itself opened the panel on a first visit, and the assistant is switched off here.
_FIXED: dict[str, object] = {
    r"mlflow\.assistant\.panelOpen_v1": False,
    r"mlflow\.assistant\.fab\.autoOpenedOnFirstLoad_v1": True,
}
_SCRIPT = """
(() => {
  const fixed = FIXED, choices = CHOICES;
  const answer = (table, name) => {
    const found = table.find(([pattern]) => new RegExp(`^(?:${pattern})$`).test(name));
    return found === undefined ? null : found[1];
  };
  const stored = Storage.prototype.getItem;
  Storage.prototype.getItem = function (name) {
    return answer(fixed, name) ?? stored.call(this, name) ?? answer(choices, name);
  };
})();
"""


def _table(answers: dict[str, object]) -> str:
    # as the browser keeps them: each answer is JSON in a string
    return json.dumps([[pattern, json.dumps(value)] for pattern, value in answers.items()])


HEAD = (
    f"<script>{_SCRIPT.replace('FIXED', _table(_FIXED)).replace('CHOICES', _table(_CHOICES))}</script>"
    "<style>[data-assistant-ui]{display:none!important}</style>"
).encode()
# Headers by which the browser may know the page: with them an answer could be "not changed", or compressed.
_UNSUITED = (b"if-none-match", b"if-modified-since", b"accept-encoding", b"range")
_VALIDATORS = (b"etag", b"last-modified", b"content-length")


def with_choices(application: Application) -> Application:
    """Put the script that answers for a person's choices into MLflow's HTML page; pass on the rest."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get("method") != "GET" or scope.get("path") != "/":
            await application(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0].lower() not in _UNSUITED]
        started: MutableMapping[str, Any] = {}
        parts: list[bytes] = []

        async def changed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            page = b"".join(parts).replace(b"<head>", b"<head>" + HEAD, 1)
            kept = [pair for pair in started["headers"] if pair[0].lower() not in _VALIDATORS]
            await send({**started, "headers": [*kept, (b"content-length", str(len(page)).encode())]})
            await send({"type": "http.response.body", "body": page})

        await application({**scope, "headers": headers}, receive, changed)

    return answer
