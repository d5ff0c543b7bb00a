"""Two data sets of one name: the second is refused, before training and at registration."""

import hashlib
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from sweeps.tracking import ModelData, RegisteredVersion, SweepWriter, find_best, log_front, registered_name
from sweeps.tracking.claiming import CLASSES_TAG, ORIGIN_TAG, NameTakenError, check_name, claim_name

HASHES = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("old", "new", "other")}
PETS, CARS = ("cat", "dog"), ("bus", "car")
START = {"sweep": "digits-1", "dataset": "digits", "params": {}, "reference_params": 1_274}


def described(data: ModelData, classes: tuple[str, ...] = PETS, **changes: object) -> ModelData:
    values: dict[str, object] = {"name": "images", "hash": HASHES["old"], "origin": "here"}
    return replace(data, classes=classes, **{**values, **changes})


def register(client: MlflowClient, data: ModelData) -> None:
    """A version of this data, without the files that a real one has."""
    facts = RegisteredVersion(
        name=registered_name(data.name),
        version=0,
        sweep="images-1",
        member="0a1b",
        data_hash=data.hash,
        ranks=(1,),
        basis=None,
        family="dense",
        params=10,
        macs=10,
        validation_accuracy=0.9,
        dense_accuracy=0.9,
        assured_accuracy=0.9,
        test_accuracy=None,
        sha256="ab" * 32,
        model_id="m-1",
    )
    client.create_model_version(facts.name, source="nowhere", tags=facts.to_tags())


# name: what the second data set changes, and what is said of it; None where it is taken
SECOND: dict[str, tuple[dict[str, object], str | None]] = {
    "the same data": ({}, None),
    "the same data from another place": ({"origin": "there"}, None),
    "more images in the same folder": ({"hash": HASHES["new"]}, None),
    "more images, which the user named": ({"hash": HASHES["new"], "origin": ""}, None),
    "other classes in the same folder": (
        {"hash": HASHES["new"], "classes": CARS},
        "the registered model arsvd-images stands for other classes, cat, dog, than this data set, bus, car",
    ),
    "other classes, which the user named": (
        {"hash": HASHES["new"], "classes": CARS, "origin": ""},
        "stands for other classes",
    ),
    "one class more": (
        {"hash": HASHES["new"], "classes": (*PETS, "eel")},
        "than this data set, cat, dog, eel",
    ),
    "the same classes in another order": ({"hash": HASHES["new"], "classes": PETS[::-1]}, "other classes"),
    "other images of the same classes": (
        {"hash": HASHES["new"], "origin": "there"},
        "stands for other images, from another place, of the same classes, cat, dog",
    ),
}


@pytest.mark.parametrize(("changes", "says"), SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("registered", [True, False], ids=["with a version", "just made"])
def test_a_name_stands_for_one_data_set(
    client: MlflowClient, data: ModelData, changes: dict[str, object], says: str | None, registered: bool
) -> None:
    first, second = described(data), described(data, **changes)  # type: ignore[arg-type]
    check_name(client, first)
    claim_name(client, first)
    if registered:
        register(client, first)
    if says is None and (registered or second.origin != "there"):
        check_name(client, second)
        claim_name(client, second)
        return
    says = says or "stands for other images"  # no version says yet that they are the same
    with pytest.raises(NameTakenError, match=f"{says}.*dataset.label=NAME"):
        check_name(client, second)
    with pytest.raises(NameTakenError, match=f"{says}.*Rename or delete the registered model arsvd-images"):
        claim_name(client, second)
    tags = client.get_registered_model("arsvd-images").tags
    assert (tags[CLASSES_TAG], tags[ORIGIN_TAG]) == ('["cat", "dog"]', "here")


@pytest.mark.parametrize("tag", ["[" * 3000, "no JSON", '{"a": 1}', '["\\ud800"]'])
def test_classes_that_somebody_else_wrote_are_shown(client: MlflowClient, data: ModelData, tag: str) -> None:
    client.create_registered_model("arsvd-images", tags={CLASSES_TAG: tag})
    with pytest.raises(NameTakenError, match="stands for other classes"):
        check_name(client, described(data))


def test_registration_refuses_as_well(client: MlflowClient, data: ModelData, front, models) -> None:  # type: ignore[no-untyped-def]
    claim_name(client, replace(data, hash=HASHES["other"], classes=CARS))
    run_id = SweepWriter(client).start(data_hash=data.hash, **START)
    with pytest.raises(NameTakenError, match="stands for other classes, bus, car"):
        log_front(client, run_id, front, lambda entry: models[entry.key], data)
    assert not client.search_model_versions("name='arsvd-digits'")


def test_versions_of_earlier_releases_tell_their_classes(
    client: MlflowClient, data: ModelData, front, models
) -> None:  # type: ignore[no-untyped-def]
    run_id = SweepWriter(client).start(data_hash=data.hash, **START)
    one, data = replace(front, points=front.points[:1]), replace(data, scale=4095.0)
    log_front(client, run_id, one, lambda entry: models[entry.key], data)
    for tag in (CLASSES_TAG, ORIGIN_TAG):
        client.delete_registered_model_tag("arsvd-digits", tag)
    check_name(client, replace(data, hash=HASHES["new"], origin="anywhere"))
    letters = tuple("abcdefghij")
    with pytest.raises(NameTakenError, match=r"other classes, 0, 1, 2, 3, 4 and 5 more, than .*, a, b, c"):
        check_name(client, replace(data, hash=HASHES["new"], classes=letters))
    claim_name(client, replace(data, hash=HASHES["new"]))
    assert client.get_registered_model("arsvd-digits").tags[CLASSES_TAG].startswith('["0", "1"')
    assert find_best("digits", max_params=10**6).scale == 4095.0


@pytest.mark.parametrize("name", ["猫と犬", "кошки", "हिन्दी", "chats-été"])
def test_names_of_every_script_are_names_of_their_own(
    client: MlflowClient, data: ModelData, name: str
) -> None:
    assert registered_name(name) == f"arsvd-{name}"
    first = described(data, name=name)
    claim_name(client, first)
    register(client, first)
    client.set_registered_model_alias(registered_name(name), "best", "1")
    assert find_best(name).data_hash == HASHES["old"]
    assert find_best(name, max_params=10).name == f"arsvd-{name}"


def test_very_many_classes_fit_a_tag(client: MlflowClient, data: ModelData) -> None:
    many = described(data, classes=tuple(f"class number {i}" for i in range(9_000)))
    claim_name(client, many)
    assert len(client.get_registered_model("arsvd-images").tags[CLASSES_TAG]) < 200
    claim_name(client, many)
    with pytest.raises(NameTakenError, match="other classes, 9000 classes of SHA-256 "):
        claim_name(client, described(data, hash=HASHES["new"]))
