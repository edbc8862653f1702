"""Every method by its name: PAN, the rivals of the paper's Table 1, two plain baselines; one interface for all (D27).

A method is a class that is built from settings and a shape, saved and read as PAN is, and scored by a `Scorer`. FHN is
PAN with its three additions set to nothing: a config, not a class. Never imports train.
"""

from pathlib import Path

import torch
from torch import nn

from panfit.baselines.bilstm import BiLstm
from panfit.baselines.csn import Csn
from panfit.baselines.linear import LinearTaste
from panfit.baselines.plain import PlainModel
from panfit.baselines.popularity import Popularity
from panfit.baselines.rival import Rival
from panfit.baselines.scorer import RivalScorer
from panfit.baselines.siamese import SiameseNet
from panfit.config import Config
from panfit.features.inputs import ItemInputs
from panfit.model.batch import PanShape
from panfit.model.checkpoint import CheckpointInfo, read_checkpoint
from panfit.model.pan import Pan
from panfit.outfits import Dataset
from panfit.scoring import OutfitScorer

LearnedModel = Pan | Rival
"""What is trained step by step."""
SomeScorer = OutfitScorer | RivalScorer | PlainModel
LEARNED: dict[str, type[Pan] | type[Rival]] = {"pan": Pan, "siamese": SiameseNet, "bilstm": BiLstm, "csn": Csn}
PLAIN: dict[str, type[PlainModel]] = {"popularity": Popularity, "linear": LinearTaste}


def shape_of(dataset: Dataset, inputs: ItemInputs) -> PanShape:
    """What a data set and its inputs decide about any model's shape."""
    return PanShape(
        num_users=len(dataset.user_ids),
        slots=tuple((slot.name, slot.category) for slot in dataset.slots),
        categories=dataset.catalogue.categories,
        text_dim=None if inputs.text is None else inputs.text.shape[1],
        input_shape=inputs.input_shape,
        num_items=len(dataset.catalogue),
    )


def make_model(config: Config, shape: PanShape, *, generator: torch.Generator) -> LearnedModel:
    """A new model of ``config.method``. Raises ConfigError for settings that contradict one another or the shape."""
    return LEARNED[config.method](config, shape, generator=generator)


def read_model(folder: str | Path) -> tuple[nn.Module, CheckpointInfo]:
    """Any method's checkpoint: see `panfit.model.checkpoint.read_checkpoint`."""
    return read_checkpoint(folder, {**LEARNED, **PLAIN})


def make_scorer(model: nn.Module, inputs: ItemInputs, *, beta: float = 1.0) -> SomeScorer:
    """What scores outfits with a model; ``beta`` is of PAN's relaxed codes (decision D7)."""
    if isinstance(model, Pan):
        return OutfitScorer(model, inputs, beta=beta)
    if isinstance(model, Rival):
        return RivalScorer(model, inputs)
    assert isinstance(model, PlainModel), f"no scorer for {type(model).__name__}"
    return model
