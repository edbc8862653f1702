"""panfit: PAN, the Personalized Attention Network for outfit recommendation.

The public names. Each is looked up when it is first used, so that ``import panfit`` is quick and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panfit import config as config
    from panfit import errors as errors
    from panfit import metrics as metrics
    from panfit import outfits as outfits
    from panfit.batch import BatchReport as BatchReport
    from panfit.batch import recommend_all as recommend_all
    from panfit.config import Config as Config
    from panfit.data.check import check_dataset as check_dataset
    from panfit.data.folder import read_dataset as read_dataset
    from panfit.data.folder import write_dataset as write_dataset
    from panfit.data.polyvore_u import import_polyvore_u as import_polyvore_u
    from panfit.data.table import import_table as import_table
    from panfit.errors import CacheError as CacheError
    from panfit.errors import CheckpointError as CheckpointError
    from panfit.errors import ConfigError as ConfigError
    from panfit.errors import DataError as DataError
    from panfit.errors import FeatureStoreError as FeatureStoreError
    from panfit.errors import MissingExtraError as MissingExtraError
    from panfit.errors import PanfitError as PanfitError
    from panfit.errors import TrainingError as TrainingError
    from panfit.errors import UnknownIdError as UnknownIdError
    from panfit.evaluate import Result as Result
    from panfit.evaluate import compare as compare
    from panfit.explain import Explanation as Explanation
    from panfit.explain import Swap as Swap
    from panfit.loading import load as load
    from panfit.model.pan import Pan as Pan
    from panfit.new_items import NewItem as NewItem
    from panfit.newcomers import Newcomer as Newcomer
    from panfit.outfits import Catalogue as Catalogue
    from panfit.outfits import Dataset as Dataset
    from panfit.outfits import FitbQuestions as FitbQuestions
    from panfit.outfits import Outfits as Outfits
    from panfit.outfits import Slot as Slot
    from panfit.recommend import Recommender as Recommender
    from panfit.train.loop import fit as fit
    from panfit.train.run_folder import FitReport as FitReport
    from panfit.unseen import Photo as Photo

_HOMES = {
    "panfit.outfits": ("Slot", "Catalogue", "Outfits", "FitbQuestions", "Dataset"),
    "panfit.config": ("Config",),
    "panfit.data.table": ("import_table",),
    "panfit.data.polyvore_u": ("import_polyvore_u",),
    "panfit.data.folder": ("write_dataset", "read_dataset"),
    "panfit.data.check": ("check_dataset",),
    "panfit.model.pan": ("Pan",),
    "panfit.train.loop": ("fit",),
    "panfit.train.run_folder": ("FitReport",),
    "panfit.evaluate": ("Result", "compare"),
    "panfit.loading": ("load",),
    "panfit.recommend": ("Recommender",),
    "panfit.newcomers": ("Newcomer",),
    "panfit.unseen": ("Photo",),
    "panfit.new_items": ("NewItem",),
    "panfit.explain": ("Explanation", "Swap"),
    "panfit.batch": ("recommend_all", "BatchReport"),
    "panfit.errors": (
        "PanfitError",
        "DataError",
        "ConfigError",
        "CheckpointError",
        "CacheError",
        "FeatureStoreError",
        "UnknownIdError",
        "TrainingError",
        "MissingExtraError",
    ),
}
"""Module -> its public names, in the order of the pipeline. A name never equals a submodule's."""

_SUBMODULES = ("errors", "metrics", "outfits", "config")
"""Light modules that are reached by ``import panfit`` alone, as in ``panfit.metrics.auc(...)``."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("panfit")
    if name in _SUBMODULES:
        return import_module(f"panfit.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'panfit' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next time it is found without asking here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
