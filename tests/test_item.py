"""Type-aware encoders: grouping by category equals one network at a time; layers, initial values, norms of logits."""

import math

import pytest
import torch
from torch import Tensor, nn

from panfit.config import ModelConfig
from panfit.model.item import TypeAwareEncoder, image_encoder, text_encoder

NUM_CATEGORIES, INPUT_DIM, BITS = 3, 5, 8


def make(kind: str = "image", **settings: object) -> TypeAwareEncoder:
    torch.manual_seed(2)
    config = ModelConfig.model_validate(
        {
            "code_bits": BITS,
            "image_hidden": 7,
            "text_hidden": 6,
            "dropout": 0.0,
            "input_dropout": 0.0,
            "encoder_init_std": 0.3,
            **settings,
        }
    )
    build = {"image": image_encoder, "text": text_encoder}[kind]
    return build(config, NUM_CATEGORIES, input_dim=INPUT_DIM).double()


def features(rows: int) -> Tensor:
    return torch.randn(rows, INPUT_DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_each_row_goes_through_its_categorys_network(kind: str) -> None:
    encoder = make(kind)
    some = features(6)
    categories = torch.tensor([2, 0, 2, 1, 0, 2])
    logits = encoder(some, categories)
    wanted = torch.stack([encoder.networks[int(category)](row) for row, category in zip(some, categories, strict=True)])
    torch.testing.assert_close(logits, wanted)
    assert logits.shape == (6, BITS)


def test_a_category_may_be_missing_from_a_batch() -> None:
    encoder = make()
    some = features(2)
    torch.testing.assert_close(encoder(some, torch.tensor([1, 1])), encoder.networks[1](some))


@pytest.mark.parametrize("category", [-1, NUM_CATEGORIES])
def test_a_category_beyond_the_models_is_refused(category: int) -> None:
    with pytest.raises(ValueError, match=r"category outside 0\.\.2"):
        make()(features(2), torch.tensor([0, category]))
    with pytest.raises(ValueError, match="2 features for 3 categories"):
        make()(features(2), torch.tensor([0, 1, 2]))


def test_layers_are_fhns() -> None:
    def layers(encoder: TypeAwareEncoder) -> list[str]:
        network = encoder.networks[0]
        assert isinstance(network, nn.Sequential)
        return [type(layer).__name__ for layer in network if not isinstance(layer, nn.Identity)]

    assert layers(make("image")) == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert layers(make("text")) == ["Linear", "ReLU", "Dropout", "Linear"]
    shapes = {name.partition(".")[2]: tuple(tensor.shape) for name, tensor in make("text").networks.named_parameters()}
    assert shapes == {"0.weight": (6, INPUT_DIM), "0.bias": (6,), "3.weight": (BITS, 6)}, "no bias before the code"


def test_initial_weights_have_the_settings_spread_and_zero_leaves_pytorchs() -> None:
    config = {"code_bits": 64, "image_hidden": 300}
    first = image_encoder(ModelConfig.model_validate({**config, "encoder_init_std": 0.01}), 1, input_dim=50)
    weight, bias, last = (parameter.detach() for parameter in first.parameters())
    assert 0.0097 < float(weight.std()) < 0.0103
    assert 0.0097 < float(last.std()) < 0.0103
    assert not bias.any()
    usual = image_encoder(ModelConfig.model_validate({**config, "encoder_init_std": 0.0}), 1, input_dim=50)
    weight = next(usual.parameters()).detach()
    assert 0.95 < float(weight.abs().max()) * math.sqrt(50) <= 1, "uniform within 1 / sqrt(inputs)"


def test_layer_norm_gives_every_item_logits_of_mean_0_and_variance_1() -> None:
    logits = make(code_norm="layer", encoder_init_std=2.0)(features(4), torch.tensor([0, 1, 1, 2]))
    torch.testing.assert_close(logits.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(logits.var(1, correction=0), torch.ones(4, dtype=torch.float64), rtol=1e-3, atol=0)


def test_batch_norm_balances_the_bits_of_a_category() -> None:
    encoder = make(code_norm="batch", encoder_init_std=2.0)
    categories = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    logits = encoder(features(7), categories)
    for category in (0, 1):
        of_category = logits[categories == category]
        torch.testing.assert_close(of_category.mean(0), torch.zeros(BITS, dtype=torch.float64))
    assert not list(encoder.networks[0][-1].parameters()), "without scale or shift"  # type: ignore[index]
    encoder.eval()
    together = encoder(features(7), categories)
    torch.testing.assert_close(together[2:3], encoder(features(7)[2:3], categories[2:3]))


def test_batch_norm_of_a_single_item_falls_back_on_the_running_statistics() -> None:
    encoder = make(code_norm="batch")
    logits = encoder(features(3), torch.tensor([0, 2, 0]))  # category 2 once, in training
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1:2], encoder.eval()(features(3)[1:2], torch.tensor([2])))
