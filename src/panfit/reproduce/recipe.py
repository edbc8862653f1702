"""From a recipe to every row's settings: a folder with one TOML file a row, and perhaps one for a trunk they share.

configs/paper/table1-pan.toml ...     as the paper describes it, on Polyvore-630
configs/paper/519/ ...                on Polyvore-519
configs/paper/visual/ ...             without text; some rows only
configs/small/table1-pan.toml ...     for some thousand photos on a CPU
FOLDER/trunk.toml                     where there: a trunk is pre-trained once, and rows learn on its maps
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from panfit.config import BackboneConfig, Config, TrainConfig
from panfit.errors import ConfigError
from panfit.features.inputs import store_folder
from panfit.features.store import hash_file, read_manifest
from panfit.methods import PLAIN
from panfit.outfits import Dataset
from panfit.reproduce.rows import Row

RECIPES = ("paper", "paper/519", "paper/visual", "small")
TWO_TOPS = ("polyvore-519", "polyvore-32")
"""The released sets whose outfits may have a second top."""
TRUNK_CONFIG = "trunk.toml"
METHOD_SECTIONS = tuple(
    name for name in get_args(Config.model_fields["method"].annotation) if name in Config.model_fields
)
"""The groups of settings that only the method of that name reads."""
TRUNK_SECTIONS = ("images", "backbone", "pretrain")
"""All that a shared trunk's file is read for: no other setting trains it anew."""
MAP_SETTINGS = {"images": ("size", "fit"), "backbone": ("width", "palette", "statistics", "attributes")}
"""What a row on photos and the shared trunk must agree on: what a photo becomes, and the map made of it."""


def config_folder() -> Path:
    """Where the shipped recipes are: inside the installed package, else in the checkout."""
    package = Path(__file__).parent.parent
    installed, checkout = package / "configs", package.parent.parent / "configs"
    return installed if installed.is_dir() else checkout


def default_recipe(dataset_name: str) -> str:
    """The paper's for the paper's data, by its number of tops, else the small one."""
    if dataset_name in TWO_TOPS:
        return "paper/519"
    return "paper" if dataset_name.startswith("polyvore-") else "small"


def recipe_folder(recipe: str) -> Path:
    """The folder of a recipe that is shipped, or one's own. Raises ConfigError."""
    folder = config_folder() / recipe if recipe in RECIPES else Path(recipe)
    if not folder.is_dir():
        raise ConfigError(f"--recipe {recipe}: there is no such folder; shipped are: {', '.join(RECIPES)}")
    return folder


def read_rows(
    folder: Path, rows: Sequence[Row], overrides: Sequence[str] = (), *, smoke: bool = False
) -> dict[str, Config]:
    """Every row's settings by its name, of seed 0.

    Args:
        folder: the recipe's.
        rows: which rows.
        overrides: ``section.key=value``, laid over all of them.
        smoke: tiny sizes and one epoch, to see that everything runs; overrides win.

    Raises:
        ConfigError: files that are missing or do not parse, all of them; an override of the seed.
    """
    if any(override.partition("=")[0].strip() == "seed" for override in overrides):
        raise ConfigError("--set seed=...: a table runs the seeds 0, 1, 2 ...; say how many by --seeds")
    missing = [row.config_file for row in rows if not (folder / row.config_file).exists()]
    if missing:
        there = ", ".join(sorted(path.name for path in folder.glob("*.toml"))) or "no TOML file"
        able = ",".join(row.name for row in rows if row.config_file not in missing)
        instead = f". Run the others by --rows {able}" if able else ""
        raise ConfigError(f"{folder}: the recipe lacks {', '.join(missing)}; there is: {there}{instead}")
    configs, problems = {}, []
    for row in rows:
        try:
            configs[row.name] = _own_settings(_read(folder / row.config_file, overrides, smoke=smoke))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return configs


def read_trunk(folder: Path, overrides: Sequence[str] = (), *, smoke: bool = False) -> Config | None:
    """The shared trunk's settings, `TRUNK_SECTIONS` alone; None for a recipe without one. Raises ConfigError."""
    path = folder / TRUNK_CONFIG
    if not path.exists():
        return None
    config = _read(path, overrides, smoke=smoke)
    if not config.pretrain.epochs or config.backbone.name != "small" or config.backbone.source != "images":
        raise ConfigError(
            f'{path}: wanted a trunk to pre-train: backbone.name = "small", backbone.source = "images" and '
            f"pretrain.epochs of 1 or more; found {config.backbone.name!r}, {config.backbone.source!r} and "
            f"{config.pretrain.epochs}"
        )
    accelerator = TrainConfig(accelerator=config.train.accelerator)
    return Config(train=accelerator, **{name: getattr(config, name) for name in TRUNK_SECTIONS})


def check_trunk(configs: Mapping[str, Config], trunk: Config) -> None:
    """Raise ConfigError where rows that want the shared trunk ask for other maps than its own; all of them."""
    problems = []
    for row, config in configs.items():
        for section, keys in MAP_SETTINGS.items() if wants_trunk(config) else ():
            for key in keys:
                found, wanted = (getattr(getattr(each, section), key) for each in (config, trunk))
                if found != wanted:
                    problems.append(f"row {row}: found {section}.{key} = {found}; the shared trunk has {wanted}")
    if problems:
        raise ConfigError("\n".join([f"rows and {TRUNK_CONFIG} differ in what a map is", *problems]))


def wants_trunk(config: Config) -> bool:
    """Whether a row learns on the shared trunk's maps: a small frozen one on photos, with no weights of its own.

    A plain baseline looks at photos, or at nothing.
    """
    backbone = config.backbone
    is_bare = backbone.source == "images" and backbone.name == "small" and backbone.weights is None
    return is_bare and backbone.frozen and config.method not in PLAIN


def with_trunk(config: Config, store: str) -> Config:
    """A row's settings, on the shared trunk's stored maps instead of a trunk and a first stage of its own."""
    stored = {"source": "stored", "store": store}
    return config.model_copy(
        update={
            "backbone": config.backbone.model_copy(update=stored),
            "pretrain": config.pretrain.model_copy(update={"epochs": 0}),
        }
    )


def fingerprint(config: Config, dataset: Dataset, trunk: Config | None = None) -> str:
    """SHA-256 of all that decides a result but the code: settings, seed, data, and what the named files hold.

    A shared trunk counts by its settings, not by its weights: whether a run is done is known before there is one.
    """
    values = config.model_dump(mode="json")
    del values["train"]["save_every_s"]
    values["backbone"] |= _contents(config.backbone, dataset)
    if trunk is not None and wants_trunk(config):
        values["trunk"] = fingerprint(trunk, dataset)
    return hashlib.sha256(json.dumps([values, dataset.checksum], sort_keys=True).encode()).hexdigest()


def without_paths(config: Config) -> Config:
    """The settings as a result file and a page show them: a file of weights by its name, not by its place."""
    if config.backbone.weights is None:
        return config
    name = Path(config.backbone.weights).name
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": name})})


def differing_settings(configs: Mapping[str, Config]) -> dict[str, list[str]]:
    """``section.key`` -> each row's value, for the settings in which rows differ; "" where a row does not read it."""
    flat: dict[str, dict[str, str]] = {name: _flat(config) for name, config in configs.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    table = {key: [values.get(key, "") for values in flat.values()] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _read(path: Path, overrides: Sequence[str], *, smoke: bool) -> Config:
    if not smoke:
        return Config.read(path, overrides)
    config = Config.read(path, [*_tiny(Config.read(path)), *overrides])
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": None})})


def _tiny(config: Config) -> tuple[str, ...]:
    """What a smoke run lays over a row: a small trunk without weights, small codes, one epoch of everything."""
    return (
        "images.size=32",
        "backbone.name=small",
        "backbone.source=images",
        "backbone.width=4",
        "model.code_bits=16",
        "model.image_hidden=32",
        "model.text_hidden=32",
        "negatives.warmup_epochs=0",
        f"pretrain.epochs={min(1, config.pretrain.epochs)}",
        "train.epochs=1",
        "train.validate_every=1",
        "bilstm.hidden=32",
    )


def _own_settings(config: Config) -> Config:
    """Settings of methods that this row is not go back to their defaults: they do not make it another run."""
    others = {name: type(getattr(config, name))() for name in METHOD_SECTIONS if name != config.method}
    return config.model_copy(update=others)


def _contents(backbone: BackboneConfig, dataset: Dataset) -> dict[str, str]:
    if backbone.source == "stored":
        manifest = read_manifest(store_folder(dataset, backbone.store or ""))
        told = manifest.model_dump_json(include={"extractor", "preparation", "weights", "shape", "checksums"})
        return {"store": hashlib.sha256(told.encode()).hexdigest()}
    return {} if backbone.weights is None else {"weights": hash_file(Path(backbone.weights))}


def _flat(config: Config) -> dict[str, str]:
    values = without_paths(config).model_dump()
    shown: dict[str, str] = {"method": config.method}
    for section, settings in values.items():
        if (isinstance(settings, dict) and section not in METHOD_SECTIONS) or section == config.method:
            shown |= {f"{section}.{key}": str(value) for key, value in settings.items()}
    return shown
