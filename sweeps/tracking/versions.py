"""The registered versions of one data set, and the choice among them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arsvd.choices import Choice, choices_of
from arsvd.json_fields import read_json
from arsvd.names import plain

if TYPE_CHECKING:
    from sweeps.ledger.records import FrontPoint

# Accuracies are counts divided by counts, and 0.985 - 0.005 is not 0.98 in binary. A model exactly at the
# limit qualifies; one sample in a billion is smaller than any data set can show.
_TOLERANCE = 1e-9


# The place of a version's files in its folder; MLflow would put them there.
PROGRAM_PATH, WEIGHTS_PATH = "data/model.pt2", "extra_files/model.safetensors"


BYTE = 255.0  # level that is 1.0 in a model's input, for images of 8 bits


class NoModelError(LookupError):
    """No registered model meets the request. The message says what the closest one has."""


PointIdentity = tuple[str, tuple[Choice, ...], str | None, str]


@dataclass(frozen=True)
class RegisteredVersion:
    """One registered model version, as its tags describe it.

    Attributes:
        name: name of the registered model.
        version: number of the version, counted from 1 in the order of registration.
        sweep: id of the sweep that it comes from.
        member: key of the member that it comes from.
        data_hash: hash of the data set, splits included. Accuracies are comparable only where it is equal.
        ranks: rank of each layer; None where the layer stays dense.
        basis: basis of the factorisation; None for the dense model.
        family: rule or step that gave the ranks.
        params: number of parameters stored.
        macs: number of multiplications per input.
        validation_accuracy: accuracy on validation, in [0, 1].
        dense_accuracy: best validation accuracy of a dense member of its sweep, in [0, 1].
        assured_accuracy: accuracy to which `max_drop` applies: the validation accuracy minus what its sweep's
            confidence takes off.
        test_accuracy: accuracy on test, in [0, 1]; None where it was not measured.
        sha256: hash of its safetensors file, in hex.
        model_id: id of the logged model that it is a version of.
        scale: level in the data's files that is 1.0 in its input.
        formats: format of each layer; None where all are low ranks.
    """

    name: str
    version: int
    sweep: str
    member: str
    data_hash: str
    ranks: tuple[int | None, ...]
    basis: str | None
    family: str
    params: int
    macs: int
    validation_accuracy: float
    dense_accuracy: float
    assured_accuracy: float
    test_accuracy: float | None
    sha256: str
    model_id: str
    scale: float = BYTE
    formats: tuple[str, ...] | None = None

    @property
    def uri(self) -> str:
        """Address that `mlflow.pytorch.load_model` takes."""
        return f"models:/{self.name}/{self.version}"

    @property
    def point(self) -> PointIdentity:
        """Identity of the point in its sweep; see `point_identity`."""
        return self.member, choices_of(self.ranks, self.formats), self.basis, self.family

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        values = {**self.__dict__, "ranks": list(self.ranks), "uri": self.uri}
        if values.pop("formats") is not None:
            values["formats"] = list(self.formats or ())
        return values

    def to_tags(self) -> dict[str, str]:
        """Return the tags of the model version."""
        tags = {
            "arsvd.sweep": self.sweep,
            "arsvd.member": self.member,
            "arsvd.data_hash": self.data_hash,
            "ranks": json.dumps(self.ranks),
            "basis": self.basis or "",
            "family": self.family,
            "params": str(self.params),
            "macs": str(self.macs),
            "validation_accuracy": repr(self.validation_accuracy),
            "dense_accuracy": repr(self.dense_accuracy),
            "assured_accuracy": repr(self.assured_accuracy),
            "sha256": self.sha256,
            "arsvd.model_id": self.model_id,
        }
        if self.formats is not None:
            tags["formats"] = json.dumps(self.formats)
        if self.scale != BYTE:
            tags["scale"] = repr(self.scale)
        if self.test_accuracy is not None:
            tags["test_accuracy"] = repr(self.test_accuracy)
        return tags

    @classmethod
    def from_tags(cls, name: str, version: int, tags: Mapping[str, str]) -> "RegisteredVersion":
        """Rebuild the facts from a model version's tags.

        Raises:
            ValueError: a tag is missing or was not written by this software.
        """
        try:
            test = tags.get("test_accuracy")
            return cls(
                name=name,
                version=version,
                sweep=tags["arsvd.sweep"],
                member=tags["arsvd.member"],
                data_hash=tags["arsvd.data_hash"],
                ranks=_ranks(tags["ranks"]),
                basis=tags["basis"] or None,
                family=tags["family"],
                params=_size(tags["params"], least=1),
                macs=_size(tags["macs"], least=0),
                validation_accuracy=_share(tags["validation_accuracy"]),
                dense_accuracy=_share(tags["dense_accuracy"]),
                assured_accuracy=_share(tags["assured_accuracy"]),
                test_accuracy=None if test is None else _share(test),
                sha256=tags["sha256"],
                model_id=tags["arsvd.model_id"],
                scale=float(tags.get("scale", BYTE)),
                formats=tuple(map(str, json.loads(tags["formats"]))) if "formats" in tags else None,
            )
        except KeyError as error:
            raise ValueError(f"version {version} of {name!r} has no tag {error.args[0]!r}") from None
        except ValueError as error:
            raise ValueError(f"version {version} of {name!r} has an unreadable tag: {error}") from None


def point_identity(entry: "FrontPoint") -> PointIdentity:
    """Return what identifies a front's entry within its sweep: member, choices, basis and family."""
    return entry.key, entry.point.choices, entry.point.basis, entry.point.family


def registered_name(dataset: str) -> str:
    """Return the registered model of a data set: `arsvd-<dataset>`, usable in an address.

    Args:
        dataset: name of the data set; characters that are neither letters of any script nor digits become
            hyphens.
    """
    return "arsvd-" + plain(dataset)


def ranks_text(choices: Sequence[Choice]) -> str:
    """Write choices for people: `12-20-dense`."""
    return "-".join(choice.text for choice in choices)


def comparable(versions: Sequence[RegisteredVersion]) -> list[RegisteredVersion]:
    """Return the versions measured on the data of the newest one; only their accuracies are comparable."""
    if not versions:
        return []
    newest = max(versions, key=lambda version: version.version)
    return [version for version in versions if version.data_hash == newest.data_hash]


def choose(
    versions: Sequence[RegisteredVersion], *, max_drop: float | None = None, max_params: int | None = None
) -> RegisteredVersion:
    """Choose among the versions that are comparable with the newest one. Validation decides, never test.

    Args:
        versions: versions of one registered model, in any order.
        max_drop: largest distance of the assured validation accuracy below the best dense one, in [0, 1]; the
            fewest parameters win, at equal sizes the more accurate version.
        max_params: largest number of parameters; the highest validation accuracy wins, at equal accuracies
            the smaller version.

    Raises:
        ValueError: not exactly one of the two limits is given, or it is out of range.
        NoModelError: no version qualifies.
    """
    if (max_drop is None) == (max_params is None):
        raise ValueError("give exactly one of max_drop and max_params")
    check_limits(max_drop, max_params)
    rivals = comparable(versions)
    if not rivals:
        raise NoModelError("no model is registered; run a sweep first")
    if max_params is not None:
        return _within_params(rivals, max_params)
    return _within_drop(rivals, float(max_drop or 0.0))


def check_limits(max_drop: float | None, max_params: int | None) -> None:
    """Refuse limits that no model could meet; None is no limit.

    Raises:
        ValueError: `max_drop` is outside [0, 1] or `max_params` is below 1.
    """
    if max_drop is not None and not 0.0 <= max_drop <= 1.0:  # false for NaN as well
        raise ValueError(f"max_drop must be a share in [0, 1], such as 0.005, got {max_drop}")
    if max_params is not None and not max_params >= 1:
        raise ValueError(f"max_params must be at least 1, got {max_params}")


def smallest(versions: Sequence[RegisteredVersion]) -> RegisteredVersion:
    """Return the version with the fewest parameters, at equal sizes the more accurate, then the newest."""
    return min(_some(versions), key=_by_size)


def most_accurate(versions: Sequence[RegisteredVersion]) -> RegisteredVersion:
    """Return the version with the highest validation accuracy, at equal ones the smaller, then the newest."""
    return min(_some(versions), key=_by_accuracy)


def _within_drop(rivals: list[RegisteredVersion], max_drop: float) -> RegisteredVersion:
    dense = max(version.dense_accuracy for version in rivals)
    fit = [v for v in rivals if v.assured_accuracy >= dense - max_drop - _TOLERANCE]
    if fit:
        return min(fit, key=_by_size)
    closest = min(rivals, key=_by_accuracy)
    raise NoModelError(
        f"no model is within {max_drop:g} of the best dense validation accuracy {dense:.4f}; the closest, "
        f"{closest.uri}, has {closest.validation_accuracy:.4f} with {closest.params:,} parameters"
    )


def _within_params(rivals: list[RegisteredVersion], max_params: int) -> RegisteredVersion:
    fit = [v for v in rivals if v.params <= max_params]
    if fit:
        return min(fit, key=_by_accuracy)
    closest = min(rivals, key=_by_size)
    raise NoModelError(
        f"no model has at most {max_params:,} parameters; the closest, {closest.uri}, has {closest.params:,} "
        f"with a validation accuracy of {closest.validation_accuracy:.4f}"
    )


def _by_size(version: RegisteredVersion) -> tuple[float, ...]:
    return version.params, -version.validation_accuracy, -version.version


def _by_accuracy(version: RegisteredVersion) -> tuple[float, ...]:
    return -version.validation_accuracy, version.params, -version.version


def _some(versions: Sequence[RegisteredVersion]) -> list[RegisteredVersion]:
    rivals = comparable(versions)
    if not rivals:
        raise NoModelError("no model is registered; run a sweep first")
    return rivals


def _ranks(text: str) -> tuple[int | None, ...]:
    values = read_json(text)
    if not isinstance(values, list) or not all(value is None or type(value) is int for value in values):
        raise ValueError(f"ranks must be a list of whole numbers and nulls, got {text!r}")
    return tuple(values)


def _size(text: str, least: int) -> int:
    size = int(text)
    if size < least:
        raise ValueError(f"a size must be at least {least}, got {text!r}")
    return size


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"an accuracy must be in [0, 1], got {text!r}")
    return value
