"""The public names are a tested list, and importing the package is quick."""

import subprocess
import sys
from pathlib import Path

import pytest

import panfit

PUBLIC = [
    "__version__",
    "Slot",
    "Catalogue",
    "Outfits",
    "FitbQuestions",
    "Dataset",
    "Config",
    "import_table",
    "import_polyvore_u",
    "write_dataset",
    "read_dataset",
    "check_dataset",
    "Pan",
    "fit",
    "FitReport",
    "Result",
    "compare",
    "load",
    "Recommender",
    "Newcomer",
    "Photo",
    "NewItem",
    "Explanation",
    "Swap",
    "recommend_all",
    "BatchReport",
    "PanfitError",
    "DataError",
    "ConfigError",
    "CheckpointError",
    "CacheError",
    "FeatureStoreError",
    "UnknownIdError",
    "TrainingError",
    "MissingExtraError",
]
SUBMODULES = ["errors", "metrics", "outfits", "config"]


def test_the_public_names_are_these() -> None:
    assert list(panfit.__all__) == [*PUBLIC, *SUBMODULES]
    assert dir(panfit) == sorted([*PUBLIC, *SUBMODULES])


@pytest.mark.parametrize("name", SUBMODULES)
def test_a_light_module_is_reached_without_importing_it(name: str) -> None:
    code = f"import panfit; print(panfit.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"panfit.{name}\n"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_under_its_own_name(name: str) -> None:
    value = getattr(panfit, name)
    assert isinstance(value, str) or value.__name__ == name


def test_no_public_name_hides_a_module() -> None:
    modules = {path.stem for path in Path(panfit.__file__).parent.iterdir()}
    assert not modules & set(PUBLIC)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        panfit.nothing  # noqa: B018


def test_importing_the_package_and_its_command_line_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "pyarrow", "sklearn", "matplotlib", "transformers", "faiss", "lightning_fabric"]
    code = f"import sys, panfit, panfit.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
