"""Backbones: shapes, parameter counts, weight files, frozen trunks; ResNet against transformers' own; fused pooling."""

import builtins
import colorsys
import copy
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from panfit.config import BackboneConfig
from panfit.errors import ConfigError, MissingExtraError
from panfit.model.alexnet import AlexNetHead, AlexNetTrunk
from panfit.model.attention import Gates
from panfit.model.backbone import Backbone, build_backbone
from panfit.model.heads import FlattenHead, Head, MaskHead, PoolHead
from panfit.model.resnet import ResNetTrunk
from panfit.model.small import IMAGENET_MEAN, IMAGENET_STD, Palette, Statistics
from panfit.model.views import lay_out

transformers = pytest.importorskip("transformers")

CLASSIFIER_SIZE = 4096 * 1000 + 1000  # torchvision's last layer, which is left out


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def make(shape: tuple[int, int, int] = (3, 32, 48), *, seed: int = 0, **settings: Any) -> Backbone:
    config = BackboneConfig.model_validate({"width": 4, **settings})
    return build_backbone(config, shape, generator=torch.Generator().manual_seed(seed), dropout=0.0)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def photos(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(8))


def test_small_trunk_with_statistics_beside_reduced_to_attributes() -> None:
    assert make(palette=5, statistics=True).map_shape == (16 + 5 + Statistics.NUM, 4, 6)
    backbone = make(palette=5, statistics=True, attributes=7)
    assert backbone.map_shape == (7, 4, 6)
    assert backbone.feature_map(photos(2, 3, 32, 48)).shape == (2, 7, 4, 6)


def test_statistics_are_what_they_say() -> None:
    colors = torch.tensor([[0.9, 0.3, 0.2], [0.1, 0.6, 0.4], [0.2, 0.3, 0.8], [0.5, 0.5, 0.5]])  # RGB in 0..1
    photo = colors.T[None, :, None, :].repeat_interleave(8, 3).expand(1, 3, 8, 32)  # four upright bars
    normalized = (photo - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    statistics = Statistics()
    measured = statistics.measure(normalized, (1, 4))[0, :, 0].T  # (4, 22)
    lights = colors @ torch.tensor([0.299, 0.587, 0.114])
    for number, (color, row) in enumerate(zip(colors.tolist(), measured, strict=True)):
        hue, saturation, highest = colorsys.rgb_to_hsv(*color)
        chroma, light = saturation * highest, float(lights[number])
        edge = abs(light - float(lights[number + 1])) / 8 if number < 3 else 0.0  # one step in eight columns
        assert row[:8].tolist() == pytest.approx([*color, light**2, saturation, chroma, edge, 0.0], abs=2e-3)
        hues, lightnesses = row[8:16], row[16:]
        assert float(hues.sum()) == pytest.approx(chroma, abs=1e-3), "a gray has no hue"
        if chroma:
            angles = torch.arange(8) / 8 * 2 * math.pi
            between = float((hues * torch.exp(1j * (angles - hue * 2 * math.pi))).sum().imag)
            assert abs(between) < 0.03 * chroma, "the two bins beside the hue share it"
            assert int((hues > 1e-4).sum()) <= 2
        assert float((lightnesses * torch.arange(6) / 5).sum()) == pytest.approx(light, abs=1e-4)
        assert float(lightnesses.sum()) == pytest.approx(1, abs=1e-4)


def test_statistics_are_brought_to_one_scale() -> None:
    measured = Statistics().train()(photos(6, 3, 32, 48), (4, 6))  # (6, 22, 4, 6)
    torch.testing.assert_close(measured.mean((0, 2, 3)), torch.zeros(Statistics.NUM), atol=1e-4, rtol=0)
    spread = measured.var((0, 2, 3), correction=0)  # (22,)
    assert (spread > 0.5).all(), "as far as batch normalization's epsilon lets a rare bin"


def test_mask_head_starts_on_the_middle_half_of_the_photo() -> None:
    head = MaskHead((2, 4, 6), 2)
    feature_map = torch.zeros(24, 2, 24)
    feature_map[torch.arange(24), :, torch.arange(24)] = 1  # one photo for each place
    weights = head(feature_map.unflatten(2, (4, 6))).unflatten(0, (4, 6))  # (4, 6, 4): what each place counts
    torch.testing.assert_close(weights.sum((0, 1)), torch.ones(4))
    middle = weights[1:3, 2:4]  # (2, 2, 4)
    edge = weights[0, 0]  # (4,)
    torch.testing.assert_close(middle, middle[:1, :1].expand(2, 2, 4))
    torch.testing.assert_close(edge / middle[0, 0], torch.tensor([-4.0, -4.0, -2.0, -2.0]).exp())


@pytest.mark.parametrize("palette", [0, 5])
def test_small_trunk_has_an_eighth_of_the_photos_side(palette: int) -> None:
    backbone = make(palette=palette)
    assert backbone.map_shape == (16 + palette, 4, 6)
    assert backbone.feature_map(photos(2, 3, 32, 48)).shape == (2, 16 + palette, 4, 6)
    assert backbone.head_dim == 16 + palette
    assert make(palette=palette, head="flatten").head_dim == (16 + palette) * 24


def test_small_trunk_in_evaluation_sees_each_photo_alone() -> None:
    backbone = make(palette=5).eval()
    some = photos(3, 3, 32, 48)
    torch.testing.assert_close(backbone.feature_map(some)[1:2], backbone.feature_map(some[1:2]))


def test_palette_is_a_soft_histogram_of_each_place() -> None:
    torch.manual_seed(1)
    palette = Palette(6)
    red, blue = palette.colors.detach()[2], palette.colors.detach()[4]
    photo = torch.empty(1, 3, 16, 32)
    photo[..., :16] = red.view(1, 3, 1, 1)  # left half in one palette color, right half in another
    photo[..., 16:] = blue.view(1, 3, 1, 1)
    shares = palette(photo, (2, 4))  # (1, 6, 2, 4)
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 2, 4))
    assert shares.argmax(1).tolist() == [[[2, 2, 4, 4]] * 2]
    assert shares.amax(1).min() > 0.9


def test_palette_colors_are_colors_and_far_apart() -> None:
    torch.manual_seed(2)
    colors = Palette(16).colors.detach() * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    assert colors.min() >= 0
    assert colors.max() <= 1
    spread = torch.pdist(colors).min()
    drawn = torch.stack([torch.pdist(torch.rand(16, 3)).min() for _ in range(50)])
    assert spread > drawn.max()


def test_the_same_generator_gives_the_same_weights_and_leaves_the_global_one_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = make(palette=3).state_dict(), make(palette=3).state_dict(), make(palette=3, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["trunk.stages.0.0.weight"], other["trunk.stages.0.0.weight"])
    assert not torch.equal(one["trunk.besides.0.colors"], other["trunk.besides.0.colors"])


@pytest.mark.parametrize("head", [PoolHead((5, 4, 6)), FlattenHead((5, 4, 6)), MaskHead((5, 4, 6), 3)])
def test_heads_equal_the_plain_product_of_map_and_gates(head: Head) -> None:
    generator = torch.Generator().manual_seed(3)
    head = copy.deepcopy(head).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    shapes = [(2, 5, 4, 6), (2, 3, 5), (2, 3, 24)]  # 2 maps of 5 channels, 3 viewers each
    drawn = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    feature_map, channel, spatial = (each.requires_grad_() for each in drawn)
    views = lay_out(torch.tensor([1, 0, 1, 1, 0]), torch.zeros(5, 7), num_items=2)
    fused = head.attended(feature_map, Gates(channel, spatial), views)
    gated = feature_map[:, None] * channel[..., None, None] * spatial.view(2, 3, 1, 4, 6)  # (2, 3, 5, 4, 6)
    plain = head(views.select(gated))
    torch.testing.assert_close(fused, plain)
    assert fused.shape == (5, head.dim)
    upstream = torch.rand(fused.shape, generator=generator, dtype=torch.float64)
    inputs = [feature_map, channel, spatial, *head.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(fused, inputs, upstream), torch.autograd.grad(plain, inputs, upstream)
    )


def torchvision_alexnet() -> nn.Module:
    """AlexNet as torchvision writes it, to check names, sizes and numbers against; on the meta device until asked."""
    with torch.device("meta"):
        model = nn.Module()
        model.features = AlexNetTrunk().features
        model.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        )
    return model


def test_alexnet_has_torchvisions_names_and_sizes() -> None:
    wanted = {name: tensor.shape for name, tensor in torchvision_alexnet().state_dict().items()}
    assert sum(shape.numel() for shape in wanted.values()) == 61_100_840
    with torch.device("meta"):
        trunk, head = AlexNetTrunk(), AlexNetHead((256, 6, 6), 0.5)
    found = {name: tensor.shape for part in (trunk, head) for name, tensor in part.state_dict().items()}
    assert found == {name: shape for name, shape in wanted.items() if not name.startswith("classifier.6")}
    assert count(trunk) + count(head) == 61_100_840 - CLASSIFIER_SIZE


@pytest.mark.parametrize(("side", "places"), [(64, 1), (224, 6), (291, 8)])
def test_alexnet_maps_are_the_papers(side: int, places: int) -> None:
    with torch.device("meta"):
        assert AlexNetTrunk()(torch.zeros(1, 3, side, side)).shape == (1, 256, places, places)


def test_alexnets_head_is_its_fully_connected_layers_averaged_over_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panfit.model.alexnet.FC_DIM", 9)
    torch.manual_seed(0)
    head = AlexNetHead((5, 7, 8), 0.0)
    attended = photos(3, 5, 7, 8)
    fc6, fc7 = head.classifier["1"], head.classifier["4"]
    windows = [
        torch.relu(fc7(torch.relu(fc6(attended[:, :, y : y + 6, x : x + 6].flatten(1)))))
        for y in (0, 1)
        for x in (0, 1, 2)
    ]
    torch.testing.assert_close(head(attended), torch.stack(windows).mean(0))
    small = photos(2, 5, 4, 4)
    stretched = torch.nn.functional.adaptive_avg_pool2d(small, 6)
    torch.testing.assert_close(head(small), torch.relu(fc7(torch.relu(fc6(stretched.flatten(1))))))


def test_resnet_50_has_torchvisions_size_and_map() -> None:
    with torch.device("meta"):
        trunk = ResNetTrunk()
        assert trunk(torch.zeros(2, 3, 224, 224)).shape == (2, 2048, 7, 7)
    assert count(trunk) == 23_508_032
    names = set(trunk.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias"} <= names
    assert "layer1.1.downsample.0.weight" not in names


def transformers_name(name: str) -> str:
    """torchvision's parameter name -> transformers'."""
    layer, _, kind = name.rpartition(".")
    if layer in ("conv1", "bn1"):
        return f"embedder.embedder.{'convolution' if layer == 'conv1' else 'normalization'}.{kind}"
    stage, block, *rest = layer.split(".")
    place = f"encoder.stages.{int(stage.removeprefix('layer')) - 1}.layers.{block}"
    if rest[0] == "downsample":
        return f"{place}.shortcut.{'convolution' if rest[1] == '0' else 'normalization'}.{kind}"
    number = int(rest[0][-1]) - 1
    return f"{place}.layer.{number}.{'convolution' if rest[0].startswith('conv') else 'normalization'}.{kind}"


def test_resnet_equals_transformers_resnet() -> None:
    torch.manual_seed(3)
    trunk = ResNetTrunk(depths=(1, 2), width=4).eval()
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[16, 32], depths=[1, 2])
    other = transformers.ResNetModel(config).eval()
    for name, buffer in trunk.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    other.load_state_dict({transformers_name(name): tensor for name, tensor in trunk.state_dict().items()})
    some = photos(2, 3, 32, 48)
    torch.testing.assert_close(trunk(some), other(some).last_hidden_state)


def hf_configs() -> dict[str, Any]:
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    vision = {**tiny, "image_size": 32, "patch_size": 8}
    clip = transformers.CLIPConfig(
        text_config={**tiny, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config=vision,
        projection_dim=6,
    )
    swin = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
    return {
        "resnet": (transformers.ResNetConfig(embedding_size=4, hidden_sizes=[8, 12], depths=[1, 1]), (12, 4, 4)),
        "vit": (transformers.ViTConfig(**vision), (8, 4, 4)),
        "clip": (clip, (8, 4, 4)),
        "swin": (transformers.SwinConfig(**swin), (16, 4, 4)),
    }


@pytest.mark.parametrize("kind", ["resnet", "vit", "clip", "swin"])
def test_hugging_face_backbones_load_from_a_folder(kind: str, tmp_path: Path) -> None:
    config, map_shape = hf_configs()[kind]
    torch.manual_seed(5)
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(tmp_path)
    backbone = make((3, 32, 32), name="hf", hf_model=str(tmp_path)).eval()
    assert backbone.map_shape == map_shape
    some = photos(2, 3, 32, 32)
    feature_map = backbone.feature_map(some)
    hidden = getattr(model, "vision_model", model)(pixel_values=some).last_hidden_state
    if hidden.ndim == 3:  # tokens: each place of the map is its patch's token
        patches = hidden[:, hidden.shape[1] - 16 :]
        hidden = torch.stack([patches[:, 4 * y : 4 * y + 4] for y in range(4)], dim=1).permute(0, 3, 1, 2)
    torch.testing.assert_close(feature_map, hidden)
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(feature_map.square().sum(), trained)  # raises for a parameter without part in it
    assert len(gradients) > 5

    again = build_backbone(
        BackboneConfig(name="hf", hf_model="/nowhere"),
        (3, 32, 32),
        generator=torch.Generator(),
        trunk_config=backbone.trunk_config,
        pretrained=False,
    ).eval()
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again.feature_map(some), feature_map)


def test_a_hugging_face_folder_without_weights_gives_initial_ones(tmp_path: Path) -> None:
    hf_configs()["resnet"][0].save_pretrained(tmp_path)
    one, same = (make((3, 32, 32), name="hf", hf_model=str(tmp_path)).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_hugging_face_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        make((3, 32, 32), name="hf", hf_model=str(tmp_path / "nowhere"))
    hf_configs()["vit"][0].save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"images.size = 32, not 48"):
        make((3, 48, 48), name="hf", hf_model=str(tmp_path))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_transformers(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_transformers)
    with pytest.raises(MissingExtraError, match=r"panfit\[backbones\]"):
        make((3, 32, 32), name="hf", hf_model="somewhere")


def test_stored_maps_pass_as_they_are() -> None:
    backbone = make((7, 4, 6), source="stored", store="maps", name="resnet50")
    assert (backbone.map_shape, backbone.head_dim) == ((7, 4, 6), 7)
    maps = photos(2, 7, 4, 6)
    assert torch.equal(backbone.feature_map(maps), maps)
    assert not list(backbone.parameters())


def test_a_frozen_trunk_stays_in_evaluation_and_does_not_train() -> None:
    backbone = make(frozen=True)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    assert not backbone.train().trunk.training
    assert not backbone.feature_map(photos(3, 3, 32, 48)).requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert make().train().trunk.training


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weight_files_load_by_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"small{suffix}"
    weights = {name: tensor + 1 for name, tensor in make(seed=4).trunk.state_dict().items()}
    older = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    extra = {"fc.weight": torch.zeros(10, 16)}  # the layer for ImageNet's classes, which is not wanted
    save_file({**older, **extra}, path) if suffix == ".safetensors" else torch.save({**older, **extra}, path)
    loaded = make(weights=str(path)).trunk.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in older.items())


def test_alexnets_head_loads_for_stored_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panfit.model.alexnet.FC_DIM", 9)
    torch.manual_seed(6)
    head = AlexNetHead((5, 6, 6), 0.0).state_dict()
    path = tmp_path / "alexnet.pth"
    torch.save({**head, "features.0.weight": torch.zeros(2), "classifier.6.weight": torch.zeros(3)}, path)
    backbone = make((5, 6, 6), name="alexnet", source="stored", store="pool5", weights=str(path))
    assert all(torch.equal(backbone.head.state_dict()[name], tensor) for name, tensor in head.items())


def test_weight_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = make().trunk.state_dict()
    name = "stages.0.0.weight"
    lacking = {other: tensor for other, tensor in good.items() if other != name}
    cases: dict[str, dict[str, Any]] = {
        f"lacks 1 tensor.*{name}": lacking,
        "beyond the trunk's, 1 tensor.*layer9": {**good, "layer9.weight": torch.zeros(1)},
        f"another shape 1 tensor.*{name}": {**good, name: torch.zeros(3)},
        "not a table of named tensors": {**good, "epoch": 3},
    }
    for number, (message, weights) in enumerate(cases.items()):
        path = tmp_path / f"{number}.pth"
        torch.save(weights, path)
        with pytest.raises(ConfigError, match=message):
            make(weights=str(path))
    with pytest.raises(ConfigError, match="no such file"):
        make(weights=str(tmp_path / "nowhere.pth"))


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a weight file ran code')",))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_and_harmful_weight_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"not weights at all")
    with pytest.raises(ConfigError, match="no weights can be read"):
        make(weights=str(path))
    torch.save({"stages.0.0.weight": _Harm()}, path)
    with pytest.raises(ConfigError, match="no weights can be read"):
        make(weights=str(path))


def test_inputs_that_the_trunk_cannot_take_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"inputs of shape \(5, 32, 32\)"):
        make((5, 32, 32))
    with pytest.raises(ConfigError, match=r"inputs of shape \(3, 4, 4\)"):
        make((3, 4, 4))
