"""Settings: frozen values that refuse. TOML in, TOML out; an unknown key or a value out of range is a `ConfigError`.

Every field says its unit and where its value comes from. Ablations are values here (lambda_user = 0, hard_ratio = 0,
attention kind "none"), never branches in the model. Imports pydantic only.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from panfit.errors import ConfigError
from panfit.rival_config import BiLstmConfig, CsnConfig, LinearConfig, SiameseConfig
from panfit.settings import Positive, Rate, Settings, Share, Weight, explain, lay_over, toml_value

__all__ = ["Config", "Positive", "Rate", "Settings", "Share", "Weight"]


class ImageConfig(Settings):
    """How a photo becomes the trunk's input."""

    size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Side of the square input, pixels. FHN: 291."""
    fit: Literal["pad", "squash"] = "squash"
    """pad: keep the proportions on a white square (FHN's helper); squash: stretch both sides to ``size``."""
    flip: bool = True
    """Mirror training photos left-right with probability one half (FHN's only augmentation)."""
    crop: Share = 0.0
    """Training photos are cropped by up to this share of their side, at random, and resized back. 0: never."""


class TextConfig(Settings):
    """The text branch's input (decision D13)."""

    source: Literal["auto", "none", "stored", "titles"] = "auto"
    """stored: the 2400-d vectors that came with the data; titles: hashed title words; auto: stored, else titles where
    every item has one, else none."""
    dim: Positive = 2400
    """Length of a hashed title's vector. PAN sec. 3.2."""


class BackboneConfig(Settings):
    """The trunk that turns a photo into a feature map, and the head behind the attention (decision D4)."""

    name: Literal["small", "alexnet", "resnet50", "hf"] = "small"
    hf_model: str | None = None
    """For name = "hf": a local folder or hub name of a vision backbone that `transformers` can load."""
    weights: str | None = None
    """A file of pre-trained weights (torchvision's .pth or .safetensors); None: random initial weights."""
    source: Literal["images", "stored"] = "images"
    """images: the trunk runs on photos; stored: maps come from the data set's feature store, the trunk is identity."""
    store: str | None = None
    """For source = "stored": the feature store's name under DATASET/features."""
    frozen: bool = False
    """Keep the trunk as it is (its maps are then computed once before training)."""
    head: Literal["own", "pool", "flatten", "mask"] = "own"
    """own: the trunk's own (AlexNet fc6, fc7 as convolutions, averaged; others: global average pooling); flatten keeps
    positions; mask averages under learned masks."""
    width: Positive = 32
    """Channels of the small trunk's first stage."""
    palette: Annotated[int, Field(ge=0, le=256)] = 0
    """Color prototypes whose soft assignment maps join the small trunk's map; 0: none."""
    statistics: bool = False
    """22 plain statistics (color, lightness, saturation, edges) of each place join the small trunk's map."""
    attributes: Annotated[int, Field(ge=0, le=4096)] = 0
    """The small trunk's map is reduced to so many channels, which `pretrain` fills with meaning; 0: not."""

    @model_validator(mode="after")
    def _consistent(self) -> "BackboneConfig":
        if self.name == "hf" and self.hf_model is None:
            raise ValueError('name = "hf" needs hf_model')
        if self.source == "stored" and self.store is None:
            raise ValueError('source = "stored" needs store, the name of a feature store')
        return self


class AttentionConfig(Settings):
    """The user-aware channel and spatial attention (PAN Eq. 2, 3)."""

    kind: Literal["pan", "none"] = "pan"
    """none: the identity (Table 2 without AN, and FHN)."""
    gate: Literal["sigmoid", "mean", "double", "residual", "softmax"] = "sigmoid"
    """sigmoid: as printed; mean: divided by its mean; double: 2 * sigmoid; residual: 1 + sigmoid; softmax: softmax,
    times the number of places (decision D5)."""
    channel_mlp: Literal["relu", "linear"] = "relu"
    """relu: CBAM's shared two-layer MLP; linear: as printed (decision D2)."""
    reduction: Positive = 16
    """The MLP's hidden width is C / reduction. CBAM."""
    kernel_size: Annotated[int, Field(ge=1, le=31)] = 7
    """Side of the spatial convolution, odd. PAN sec. 3.2."""
    user_map: Literal["map", "scalar", "query"] = "map"
    """map: W_su is (HW x D); scalar: one number a user (decision D3); query: each place answers the user's query by
    what it shows (decision D28)."""
    query_dim: Positive = 32
    """Length of that query."""
    user_input: Literal["embedding", "code"] = "embedding"
    """embedding: f_u of Eq. 1; code: its relaxed code (decision D1)."""


class ModelConfig(Settings):
    """Encoders, codes and the predictor (PAN Eq. 1, 4)."""

    code_bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 128
    """D, bits of a code (decision D8)."""
    image_hidden: Positive = 2048
    """Hidden units of a category's two-layer image encoder. FHN: 2048."""
    text_hidden: Positive = 1024
    """Hidden units of a category's text encoder. FHN: 1024."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Of the image encoder's input. FHN: 0.5."""
    feature_norm: Literal["none", "batch"] = "none"
    """Normalization (without scale or shift) of the image encoder's input."""
    code_norm: Literal["none", "layer", "batch"] = "none"
    """Normalization (without scale or shift) of the code logits before tanh; batch balances the bits."""
    pair_weight: Literal["diagonal", "full"] = "diagonal"
    """W(u) and W(i) of Eq. 4 (decision D6)."""
    score_scale: Annotated[float, Field(gt=0)] = 10.0
    """Both means of Eq. 4 are multiplied by it. FHN: 10."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the personal part in Eq. 4."""
    learn_alpha: bool = False
    user_init_std: Annotated[float, Field(gt=0)] = 0.01
    """Standard deviation of the initial user embeddings."""
    encoder_init_std: Annotated[float, Field(ge=0)] = 0.01
    """Standard deviation of the encoders' initial weights (FHN: .01); 0: PyTorch's default initialization."""


class NegativesConfig(Settings):
    """Eq. 5's triplets and the user-aware hard negatives (decisions D9-D11)."""

    per_like: Positive = 1
    """Random negative outfits of S1 for each like."""
    source: Literal["split", "batch"] = "split"
    """Where a negative's items are drawn from: all the split's, or the batch's own (no further photo is encoded)."""
    hard_ratio: Share = 0.5
    """Share of the S1 negatives that are mined. 0: no mining. PAN sec. 3.2."""
    k_ratio: Share = 0.2
    """Share of the batch's other users that counts as near (decision D10)."""
    choose: Literal["loss", "nearest", "random", "any", "far"] = "loss"
    """loss: the highest loss among the near; nearest: distance alone; random: any of the near; any: near or far; far:
    any but the near, who are the likeliest to share the taste (decision D30)."""
    compare: Literal["score", "personal"] = "score"
    """What a mined negative is compared on: the whole score y, or the personal part p alone (decision D10)."""
    other_user: Literal["near", "any"] = "near"
    """u_n of S2: a mined near user, or any user of the batch (decision D11)."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs before mining starts."""
    gather: bool = True
    """Where several processes train: mine among the likes of all of them. False: each among its own."""


class LossConfig(Settings):
    """The weights of Eq. 9's terms."""

    lambda_user: Weight = 0.1
    """lambda_1, of the user-specific loss. PAN sec. 3.2."""
    lambda_vse: Weight = 0.1
    """lambda_2, of the visual-semantic loss. PAN sec. 3.2."""
    vse_margin: Weight = 0.1
    """m of Eq. 8 (FHN's)."""
    lambda_quantization: Weight = 0.0
    """Of the mean of (|relaxed code| - 1)^2: pulls codes towards +-1. Not in the paper."""


class OptimizerConfig(Settings):
    """One learning rate for each named group of parameters (decision D15)."""

    name: Literal["sgd", "adamw"] = "sgd"
    user: Rate = 10.0
    trunk: Rate = 0.001
    attention: Rate = 0.1
    image_encoder: Rate = 0.01
    text_encoder: Rate = 0.01
    predictor: Rate = 0.1
    """W(u), W(i), alpha."""
    momentum: Share = 0.9
    """Of SGD."""
    weight_decay: Weight = 1e-6
    """Of trunk, attention and encoders. FHN: 1e-6 for all."""
    weight_decay_codes: Weight = 1e-6
    """Of the user embeddings and the predictor's weights, which a strong decay would erase."""
    clip_norm: Weight = 0.0
    """Gradients are scaled down to this norm; 0: never."""
    schedule: Literal["constant", "cosine", "fhn"] = "constant"
    """fhn: halved after epoch 11 and then every 21 epochs, what FHN's plateau rule effectively did."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which every rate rises from 0."""


class PretrainConfig(Settings):
    """The trunk's first stage: learn what the catalogue knows (category, title words, colors). Not in the paper."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the catalogue's photos; 0: no first stage."""
    batch_size: Positive = 128
    """Photos a step, of all processes together."""
    learning_rate: Rate = 2e-3
    weight_decay: Weight = 1e-4
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"
    """Arithmetic of the trunk in this stage. bf16 is several times faster on processors that have it, and ten times
    slower on those that do not; auto: bf16 where there is a GPU or a CPU for it."""


class TrainConfig(Settings):
    """The loop."""

    epochs: Positive = 100
    batch_size: Positive = 64
    """Likes a step, of each process: N processes train as one with N times as many."""
    beta: Literal["sqrt", "constant", "late"] = "sqrt"
    """tanh(beta x): sqrt(epoch + 1) (FHN); 1 throughout; or 1, rising to ``beta_final`` over the last third."""
    beta_final: Annotated[float, Field(ge=1)] = 4.0
    straight_through_from: Share = 1.0
    """From this share of the epochs on, training sees sign(x) with the gradient of tanh(beta x) (straight-through,
    decision D7). 0: throughout; 1: never."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the running mean of the weights that is evaluated and saved; 0: the weights themselves."""
    validate_every: Positive = 1
    """Epochs between validations."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Validations without improvement before training stops; 0: never."""
    select: Literal["auc", "fitb", "ndcg", "relaxed_auc", "mean"] = "auc"
    """What the best checkpoint is chosen by, on validation; binary codes unless it says relaxed. mean: of the three."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs; auto takes a GPU if there is one."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Lightning Fabric's name for the arithmetic of the forward pass."""
    save_every_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between saves of the full state."""


class Config(Settings):
    """Everything a run is made of, but the data."""

    method: Literal["pan", "siamese", "bilstm", "csn", "popularity", "linear"] = "pan"
    """What is trained: PAN (FHN too: a PAN config whose additions are set to nothing), a rival of the paper's Table 1,
    or a plain baseline (decision D27)."""
    seed: Annotated[int, Field(ge=0)] = 0
    images: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
    backbone: BackboneConfig = BackboneConfig()
    attention: AttentionConfig = AttentionConfig()
    model: ModelConfig = ModelConfig()
    negatives: NegativesConfig = NegativesConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    pretrain: PretrainConfig = PretrainConfig()
    train: TrainConfig = TrainConfig()
    siamese: SiameseConfig = SiameseConfig()
    bilstm: BiLstmConfig = BiLstmConfig()
    csn: CsnConfig = CsnConfig()
    linear: LinearConfig = LinearConfig()

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "config") -> "Config":
        """Nested values -> Config. Raises ConfigError with every problem, each with its key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(error, source, cls)) from None

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Config":
        """A TOML file, with ``section.key=value`` overrides laid over it. Raises ConfigError."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no such config file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a TOML file: {error}") from None
        for override in overrides:
            lay_over(values, override)
        return cls.parse(values, str(path))

    def to_toml(self) -> str:
        """TOML that `read` reads back to an equal Config. A key whose value is None is left out."""
        lines = [f"method = {toml_value(self.method)}", f"seed = {self.seed}"]
        for section, values in self.model_dump().items():
            if isinstance(values, dict):
                lines += ["", f"[{section}]"]
                lines += [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]
        return "\n".join(lines) + "\n"
