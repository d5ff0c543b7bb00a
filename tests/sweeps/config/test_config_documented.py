"""What a sweep file may hold is written once: in the options."""

from pathlib import Path

import pytest

from sweeps.config import bundled_configs, dump_config, load_config
from sweeps.config.options import options
from sweeps.config.table import keys_table

DOCUMENT = Path(__file__).parents[3] / "docs" / "sweep-file.md"


def test_the_documentation_has_every_key_as_it_is() -> None:
    # made anew with: python -c "from sweeps.config.table import keys_table; print(keys_table())"
    assert keys_table() in DOCUMENT.read_text()


@pytest.mark.parametrize("name", bundled_configs())
def test_validate_prints_a_file_to_start_from(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    text = dump_config(config, comments=True)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load_config(path) == config
    explained = [line for line in text.splitlines() if " # " in line]
    owned = ("dataset.path", "dataset.size", "dataset.test")
    assert len(explained) == len(options()) - len(owned)


def test_a_folder_of_images_has_its_own_keys_explained(tmp_path: Path) -> None:
    config = load_config("digits", ["dataset.name=imagefolder", "dataset.path=/data/set #2"])
    text = dump_config(config, comments=True)
    assert "  size: null " in text
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load_config(path) == config
