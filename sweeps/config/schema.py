"""The sweep file's sections and keys: what each may be, and what it is when left out."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, field_validator

from sweeps.config.faults import FaultError
from sweeps.config.forms import DEFAULT_POINTS, Choice, EnergyRange, IntRange, LogUniform, Searchable, Uniform
from sweeps.config.values import (
    MOST_COUNT,
    MOST_FACTORS,
    SEED_LIMIT,
    AutoOr,
    DistinctNames,
    Label,
    Number,
    OneOf,
    OrNothing,
    Portion,
    Sides,
    Text,
    Whole,
    Widths,
)

DATASETS = ("digits", "mnist", "cifar10", "cifar100", "imagefolder")
BASES = ("weight", "activation", "loss")
FAMILIES = ("threshold", "budget", "sensitivity", "local", "refit", "per_layer")
RULES = ("energy", "entropy")
SCHEDULES = ("onecycle", "cosine")
SAMPLERS = ("tpe", "nsga2", "random", "qmc")
OBJECTIVES = ("accuracy", "macro_f1", "loss", "params", "macs")
IMAGEFOLDER_TEST = 0.2

SearchedNumber: TypeAlias = float | Choice[float] | Uniform | LogUniform
SearchedWhole: TypeAlias = int | Choice[int] | IntRange
SearchedName: TypeAlias = str | Choice[str]

_name = Text(r"[a-z0-9][a-z0-9-]{0,63}", "up to 64 lower-case letters, digits and hyphens")
_positive = Number(0, low_open=True)
_share = Number(0, 1, high_open=True)
_seed = Whole(0, SEED_LIMIT)
_threshold = Number(0, 1, low_open=True)
_count, _count_or_none = Whole(1, most=MOST_COUNT), Whole(0, most=MOST_COUNT)
_counts = Searchable(_count, ("choice", "int"))
_factors = Searchable(Whole(1, most=MOST_FACTORS), ("choice", "int"))
_shares = Searchable(_share, ("choice", "uniform"))
_rates = Searchable(_positive, ("choice", "uniform", "loguniform"))


class Section(BaseModel):
    """A mapping of known keys; unknown ones are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(Section):
    """The images, and how they are split. `path`, `size` and `test` belong to imagefolder only.

    Attributes:
        label: What models are registered under; None for the data set's name, or the folder's.
        validation: A count of training images, or a fraction of them.
        confirmation: The same of what validation leaves, for `select.confidence`; None for none.
        size: Side, or height and width, in pixels that images are resized to; None keeps their own size.
        test: Fraction held out as the test split, for a folder that has none; None for other data sets.
    """

    name: Annotated[str, PlainValidator(OneOf(DATASETS))]
    path: Annotated[str | None, PlainValidator(OrNothing(Text(r"(?s).+", "the path of a folder")))] = Field(
        default=None, validate_default=True
    )
    label: Annotated[str | None, PlainValidator(OrNothing(Label()))] = None
    validation: Annotated[int | float, PlainValidator(Portion())] = 0.1
    confirmation: Annotated[int | float | None, PlainValidator(OrNothing(Portion()))] = None
    seed: Annotated[int, PlainValidator(_seed)] = 0
    size: Annotated[int | tuple[int, int] | None, PlainValidator(OrNothing(Sides()))] = None
    test: Annotated[float | None, PlainValidator(OrNothing(Number(0, 1, low_open=True, high_open=True)))] = (
        Field(default=None, validate_default=True)
    )

    @field_validator("path", "size", "test")
    @classmethod
    def _imagefolder_only(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("name")
        if name is None:  # the name has a fault of its own
            return value
        if name != "imagefolder" and value is not None:
            raise FaultError(f"is for the data set imagefolder only; remove it, since dataset.name is {name}")
        if name == "imagefolder" and value is None and info.field_name == "path":
            raise FaultError("missing, must be the path of a folder, since dataset.name is imagefolder")
        if name == "imagefolder" and value is None and info.field_name == "test":
            return IMAGEFOLDER_TEST
        return value


class ModelConfig(Section):
    """The networks.

    Attributes:
        factors: How many linear factors each weight is trained as (LoRITa, arXiv 2405.03089); 1 is plain.
        reference: Hidden widths of the dense model that compression is counted against.
    """

    hidden: Annotated[
        tuple[int, ...] | Choice[tuple[int, ...]], PlainValidator(Searchable(Widths(), ("choice",)))
    ]
    factors: Annotated[SearchedWhole, PlainValidator(_factors)] = 1
    dropout: Annotated[SearchedNumber, PlainValidator(_shares)] = 0.0
    reference: Annotated[tuple[int, ...], PlainValidator(Widths())]


class TrainingConfig(Section):
    """How members are trained.

    Attributes:
        flip: Mirror images at random; auto does so for colour images.
        seed: One seed for all members; None gives each its own, derived from `search.seed`.
    """

    epochs: Annotated[SearchedWhole, PlainValidator(_counts)]
    batch_size: Annotated[int | Choice[int], PlainValidator(Searchable(_count, ("choice",)))]
    lr: Annotated[SearchedNumber, PlainValidator(_rates)]
    weight_decay: Annotated[
        SearchedNumber, PlainValidator(Searchable(Number(0), ("choice", "uniform", "loguniform")))
    ]
    label_smoothing: Annotated[SearchedNumber, PlainValidator(_shares)] = 0.0
    schedule: Annotated[str, PlainValidator(OneOf(SCHEDULES))] = "onecycle"
    flip: Annotated[bool | Literal["auto"], PlainValidator(OneOf[bool | str](("auto", True, False)))] = "auto"
    seed: Annotated[int | None, PlainValidator(OrNothing(_seed))] = None


class DistillationConfig(Section):
    """How much fine-tuning listens to the dense member, and how soft its answers are."""

    weight: Annotated[SearchedNumber, PlainValidator(Searchable(Number(0, 1), ("choice", "uniform")))] = 0.9
    temperature: Annotated[SearchedNumber, PlainValidator(_rates)] = 2.0


class CompressionConfig(Section):
    """How trained members are compressed and fine-tuned.

    Attributes:
        energy: Thresholds to try: one, a choice, or a range that every member is evaluated over.
        families: Where a trained member's candidate points come from: one global threshold, parameter
            budgets, budgets weighted by the layers' measured effect on the loss, a local search from the
            points found, layers refitted to the dense member's outputs, Optuna over one threshold per layer.
        calibration: Most training images used for the bases of outputs.
        finetune_epochs: 0 switches recovery off.
        finetune_points: Most points of a member's front that are fine-tuned: those that may move the sweep's.
    """

    basis: Annotated[SearchedName, PlainValidator(Searchable(OneOf(BASES), ("choice",)))] = "activation"
    rule: Annotated[SearchedName, PlainValidator(Searchable(OneOf(RULES), ("choice",)))] = "energy"
    energy: Annotated[
        float | Choice[float] | EnergyRange, PlainValidator(Searchable(_threshold, ("choice", "range")))
    ] = EnergyRange(0.3, 0.999, DEFAULT_POINTS)
    families: Annotated[tuple[str, ...], PlainValidator(DistinctNames(FAMILIES))] = FAMILIES[:-1]
    calibration: Annotated[int, PlainValidator(Whole(2, most=100 * MOST_COUNT))] = 10_000
    finetune_epochs: Annotated[int, PlainValidator(_count_or_none)] = 0
    finetune_points: Annotated[int, PlainValidator(_count)] = 6
    finetune_lr: Annotated[SearchedNumber, PlainValidator(_rates)] = 1e-3
    distillation: DistillationConfig = DistillationConfig()

    @field_validator("rule")
    @classmethod
    def _entropy_needs_weight(cls, rule: SearchedName, info: ValidationInfo) -> SearchedName:
        if "basis" not in info.data:  # the basis has a fault of its own
            return rule
        if "entropy" in options(rule) and "weight" not in options(info.data["basis"]):
            raise FaultError(
                "got entropy, which works in the weight basis only; add weight to compression.basis"
            )
        return rule


class SearchConfig(Section):
    """What Optuna does.

    Attributes:
        objectives: What it optimises: accuracy and macro_f1 upwards, loss, params and macs downwards.
    """

    trials: Annotated[int, PlainValidator(_count)]
    sampler: Annotated[str, PlainValidator(OneOf(SAMPLERS))] = "tpe"
    seed: Annotated[int, PlainValidator(_seed)] = 0
    objectives: Annotated[tuple[str, ...], PlainValidator(DistinctNames(OBJECTIVES))] = ("accuracy", "params")


class SelectConfig(Section):
    """Which point is "best": fewest parameters within `max_drop` of the best dense accuracy on validation.

    Attributes:
        confidence: The drop must hold at this one-sided confidence, that a point was chosen counted; see
            `dataset.confirmation`. None takes the drop as measured, which choosing among thousands flatters.
    """

    max_drop: Annotated[float, PlainValidator(_share)] = 0.005
    confidence: Annotated[float | None, PlainValidator(OrNothing(Number(0.5, 1, high_open=True)))] = None


class ResourcesConfig(Section):
    """What one trial takes.

    Attributes:
        cpu: CPU cores.
        gpu: GPUs, a fraction to share one; auto looks at the machine.
        pack: Members trained together in one trial.
        concurrent: Most trials at a time.
        checkpoint_every: Seconds between two checkpoints of a member in training: what a crash may cost.
    """

    cpu: Annotated[float, PlainValidator(_positive)] = 1.0
    gpu: Annotated[float | Literal["auto"], PlainValidator(AutoOr(Number(0)))] = "auto"
    pack: Annotated[int | Literal["auto"], PlainValidator(AutoOr(_count))] = "auto"
    concurrent: Annotated[int | Literal["auto"], PlainValidator(AutoOr(_count))] = "auto"
    checkpoint_every: Annotated[float, PlainValidator(_positive)] = 60.0


class SweepConfig(Section):
    """One whole sweep file, checked. `load_config` and `parse_config` make it, and name every fault."""

    dataset: DatasetConfig
    name: Annotated[str | None, PlainValidator(OrNothing(_name))] = Field(default=None, validate_default=True)
    model: ModelConfig
    training: TrainingConfig
    compression: CompressionConfig = CompressionConfig()
    search: SearchConfig
    select: SelectConfig = SelectConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("name")
    @classmethod
    def _named_after_dataset(cls, name: str | None, info: ValidationInfo) -> str | None:
        dataset = info.data.get("dataset")
        if name is not None or dataset is None or dataset.name == "imagefolder":
            return name  # sweeps of a folder are named after it, once it was read
        return str(dataset.name)


def options(value: Any) -> tuple[Any, ...]:
    """Every value that a key can take: the options of a choice, else the one plain value."""
    return value.options if isinstance(value, Choice) else (value,)
