import io

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.layers import DropPath
from torch import nn
from torch.nn.functional import pad

from xtgeo.errors import ModelError
from xtgeo.model import Spec
from xtgeo.model.pretrained import adapt_input, read_weights
from xtgeo.model.regions import RECOMMENDED, RegionEncoder


def encoder(name="convnext_atto", bands=2, *, side=64, seed=0, **options):
    torch.manual_seed(seed)
    return RegionEncoder(name, bands, side=side, **options)


def awake(net):
    """No weight and no statistic is what it was at birth."""
    generator = torch.Generator().manual_seed(1)
    for t in net.state_dict().values():
        if t.is_floating_point() and t.ndim == 1:
            t += 0.3 * torch.rand(t.shape, generator=generator, dtype=t.dtype)
    return net


def region(h=64, w=64, bands=2, dtype=torch.float32):
    return torch.randn(2, bands, h, w, generator=torch.Generator().manual_seed(2), dtype=dtype)


def same(a, b, **tolerance):
    return len(a) == len(b) and all(torch.allclose(x, y, **tolerance) for x, y in zip(a, b, strict=True))


def watched(net, x):
    """Levels, and the bytes that wait for the backward pass."""
    sizes = []

    def keep(t):
        sizes.append(t.nbytes)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        return net(x), sum(sizes)


def answers(net, x):
    with torch.inference_mode():
        return net.eval()(x)


@pytest.mark.parametrize(
    ("name", "stride", "bands", "side"),
    [
        ("swinv2_tiny_window8_256", 32, 5, 96),
        ("hiera_tiny_224", 8, 13, 72),
        ("convnext_atto", 32, 5, 96),
        ("convnextv2_atto", 8, 13, 40),
        ("mobilenetv4_conv_small", 32, 1, 160),
        ("test_maxvit", 16, 2, 80),
        ("pvt_v2_b0", 16, 2, 80),
        ("edgenext_xx_small", 16, 5, 80),
        ("test_efficientnet", 32, 1, 96),
        ("coat_tiny", 16, 2, 80),
        ("twins_svt_small", 16, 2, 80),
    ],
)
def test_levels_have_the_strides_and_channels_that_are_declared(name, stride, bands, side):
    net = encoder(name, bands, side=side, stride=stride)
    assert net.strides[-1] == stride
    for h, w in ((side, side), (side, stride), (stride, 2 * stride), (stride + 5, 2 * stride - 3)):
        levels = answers(net, region(h, w, bands))
        assert [tuple(level.shape) for level in levels] == [
            (2, c, -(-h // s), -(-w // s)) for c, s in zip(net.channels, net.strides, strict=True)
        ]
        assert all(level.isfinite().all() for level in levels)


@pytest.mark.parametrize("name", ["hiera_tiny_224", "test_maxvit", "pvt_v2_b0"])
def test_padding_inside_is_zeros_outside(name):
    net = encoder(name, side=80)
    x = region(80, 48)
    high, wide = (net.side or -(-n // net.multiple) * net.multiple for n in (80, 48))
    whole = answers(net, pad(x, (0, wide - 48, 0, high - 80)))
    cut = [level[..., : 80 // s, : 48 // s] for level, s in zip(whole, net.strides, strict=True)]
    assert same(answers(net, x), cut, atol=1e-5)


def test_a_region_larger_than_the_network_was_built_for_is_refused():
    net = encoder("test_maxvit")
    with pytest.raises(ValueError, match="up to 64 x 64, this one is 96 x 64"):
        net(region(96, 64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_giant_of_tomorrow", "timm has no model .*convnext_atto"),
        ("convnext_atto.of_tomorrow", "timm has no weights .*convnext_atto.d2_in1k"),
        ("vit_tiny_patch16_224", "is no pyramid"),
        ("pit_xs_224", "the level at stride 8 of a 128 x 128 region is 15 x 15"),
    ],
)
def test_what_cannot_be_a_region_encoder_is_refused(name, message):
    with pytest.raises(ModelError, match=message):
        encoder(name)


@pytest.mark.parametrize("name", RECOMMENDED)
def test_recommended_encoders_are_as_the_table_says(name):
    with torch.device("meta"):
        net = encoder(name, 3, side=256)
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    assert RECOMMENDED[name] == (round(millions, 1), tuple(net.strides), tuple(net.channels))


@pytest.mark.parametrize("name", ["convnext_atto", "swinv2_tiny_window8_256", "resnet18"])
def test_stochastic_depth_changes_training_only(name):
    plain, deep = (awake(encoder(name, stride=8, drop_path=p)) for p in (0.0, 0.9))
    assert same(answers(plain, region()), answers(deep, region()))
    plain.train(), deep.train()
    with torch.no_grad():
        assert same(plain(region()), plain(region()))
        assert not same(deep(region()), deep(region()))
    assert not any(isinstance(m, DropPath) and m.drop_prob for m in plain.modules())


def test_stochastic_depth_is_refused_where_there_is_none():
    with pytest.raises(ModelError, match="ghostnet_050 has no stochastic depth"):
        encoder("ghostnet_050", drop_path=0.1)
    with pytest.raises(ValueError, match="probability below 1"):
        encoder(drop_path=1.0)


@pytest.mark.parametrize(
    ("name", "drop_path"),
    [
        ("convnext_atto", 0.5),
        ("hiera_tiny_224", 0.0),
        ("resnet18", 0.0),
        ("cs3darknet_s", 0.0),
    ],
)
def test_checkpoints_save_memory_and_give_the_same_gradients(name, drop_path):
    gradients, saved = [], []
    for checkpoint in (False, True):
        net = awake(encoder(name, stride=8, drop_path=drop_path, checkpoint=checkpoint).double())
        torch.manual_seed(3)
        levels, size = watched(net, region(dtype=torch.float64))
        sum(level.square().mean() for level in levels).backward()
        gradients.append({key: p.grad for key, p in net.named_parameters()})
        saved.append(size)
    assert saved[1] < 0.6 * saved[0]
    plain, again = gradients
    assert sum(g is not None for g in plain.values()) > 0.9 * len(plain)
    for key, g in plain.items():
        assert (g is None and again[key] is None) or torch.allclose(g, again[key], rtol=1e-9, atol=1e-12), key


@pytest.mark.parametrize(
    ("name", "frozen", "checkpoint"),
    [
        ("convnext_atto", 1, True),
        ("resnet18", 1, False),
        ("resnet18", 2, True),
        ("mobilenetv4_conv_small", 3, False),
    ],
)
def test_frozen_stages_learn_nothing_and_their_statistics_stand_still(name, frozen, checkpoint):
    net = awake(encoder(name, frozen=frozen, checkpoint=checkpoint, drop_path=0.5)).train()
    before = {key: t.clone() for key, t in net.state_dict().items()}
    still = answers(net, region())[:frozen]
    net.train()
    levels = net(region())
    assert same(still, levels[:frozen], atol=1e-5) and not any(level.requires_grad for level in levels[:frozen])
    assert all(level.requires_grad for level in levels[frozen:])
    sum(level.square().mean() for level in levels[frozen:]).backward()
    torch.optim.SGD([p for p in net.parameters() if p.grad is not None], 0.1).step()
    after = net.state_dict()
    stopped = {key for key, p in net.named_parameters() if not p.requires_grad}
    # A buffer belongs to the parameters beside it.
    frozen_modules = {key.rpartition(".")[0] for key in stopped}
    for key in before:
        if key.rpartition(".")[0] in frozen_modules:
            assert torch.equal(before[key], after[key]), key
    moved = [key for key, t in before.items() if not torch.equal(t, after[key])]
    assert moved and stopped and not {key.rpartition(".")[0] for key in moved} & frozen_modules


def test_all_levels_may_be_frozen_and_not_more():
    net = encoder(frozen=3)
    assert not any(level.requires_grad for level in net(region()))
    with pytest.raises(ValueError, match="of 3 levels, 4 cannot be frozen"):
        encoder(frozen=4)


@pytest.fixture(scope="module")
def taught():
    return awake(encoder("resnet18", seed=5)).eval()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": {f"backbone.{k}": v for k, v in s.items()}, "optimizer": {"state": {}}},
        lambda s: {f"encoder.model.{k}": v for k, v in s.items()} | {"decoder.weight": torch.zeros(3)},
        lambda s: {f"module.encoder_q.{k}": v for k, v in s.items() if "num_batches" not in k},
    ],
)
def test_a_file_comes_back_whatever_its_wrapping(taught, wrap, tmp_path):
    torch.save(wrap(taught.net.state_dict()), tmp_path / "w.pth")
    net = encoder("resnet18", weights=tmp_path / "w.pth")
    assert same(answers(net, region()), answers(taught, region()), atol=1e-6)


def test_weights_of_an_xtgeo_model_find_their_bands_by_name(taught, tmp_path):
    spec = Spec("a", ("vv", "vh"), "db", (0.0, 0.0), (1.0, 1.0), 10.0)
    state = {f"regions.net.{k}": v.contiguous() for k, v in taught.net.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", metadata={"spec": spec.to_json()})
    turned = encoder("resnet18", ("VH", "VV"), weights=str(tmp_path / "w.safetensors"))
    assert same(answers(turned, region().flip(1)), answers(taught, region()), atol=1e-5)


def test_the_whole_network_may_be_in_the_file_and_positions_are_resampled(tmp_path):
    theirs = timm.create_model("hiera_tiny_224", in_chans=2).state_dict()
    ramp = (torch.arange(56) + 0.5) / 56
    theirs["pos_embed"][:] = ramp.repeat_interleave(56)[None, :, None]
    torch.save(theirs, tmp_path / "w.pt")
    kept = encoder("hiera_tiny_224", side=96, stride=8, weights=tmp_path / "w.pt").net.state_dict()
    ramp = (torch.arange(24) + 0.5) / 24
    assert torch.allclose(kept.pop("pos_embed")[0, :, 5].view(24, 24), ramp[:, None].expand(24, 24), atol=0.02)
    assert all(torch.equal(t, theirs[key]) for key, t in kept.items())


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "swin_tiny_patch4_window7_224"])
def test_torchvisions_swin_is_timms(name, tmp_path):
    from torchvision.models import swin_t, swin_v2_t

    side = 64 if "v2" in name else 224
    torch.manual_seed(0)
    theirs = awake((swin_v2_t if "v2" in name else swin_t)(weights=None)).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = encoder(name, 3, side=side, stride=8, weights=tmp_path / "w.pth")
    x = region(side, side, 3)
    with torch.inference_mode():
        first = theirs.features[:2](x)
        second = theirs.features[2:4](first)
    assert same(answers(ours, x), [t.permute(0, 3, 1, 2) for t in (first, second)], atol=1e-4)
    other, own = ("swinv2_tiny_window16_256", 8) if "v2" in name else ("swin_base_patch4_window12_384", 7)
    with torch.device("meta"), pytest.raises(ModelError, match=f"windows of {own}, the backbone has 1[26]"):
        encoder(other, 3, side=side, stride=8, weights=tmp_path / "w.pth")


def test_names_of_features_only_networks_are_understood(tmp_path):
    part = timm.create_model("swinv2_tiny_window8_256", features_only=True, in_chans=2, out_indices=(0, 1))
    torch.save({f"encoder.model.{k}": v for k, v in part.state_dict().items()}, tmp_path / "w.pth")
    net = encoder("swinv2_tiny_window8_256", stride=8, weights=tmp_path / "w.pth")
    assert torch.equal(net.net.layers[1].downsample.reduction.weight, part.layers_1.downsample.reduction.weight)


def test_weights_of_another_network_are_refused_with_counts(taught, tmp_path):
    torch.save(taught.net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"0 of the 102 tensors .*stem\.0\.weight.* and 99 more; there: conv1\.weight"):
        encoder("convnext_atto", weights=tmp_path / "w.pth")


def test_a_part_that_is_missing_is_told(taught, tmp_path):
    state = dict(taught.net.state_dict())
    del state["layer3.0.bn1.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match=r"74 of the 75 tensors .*layer3\.0\.bn1\.weight; .*stays random"):
        encoder("resnet18", weights=tmp_path / "w.pth")


def test_two_networks_in_one_file_are_refused(taught, tmp_path):
    state = taught.net.state_dict()
    torch.save({f"{side}.{k}": v for side in ("student", "teacher") for k, v in state.items()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="two such networks, 'student.' and 'teacher.'"):
        encoder("resnet18", weights=tmp_path / "w.pth")


class Whole(nn.Module):
    pass


def test_files_that_hold_no_tensors_are_refused(tmp_path):
    pickled = io.BytesIO()
    torch.save(Whole(), pickled)
    for name, content in (("a.pth", pickled.getvalue()), ("b.pth", b"not at all"), ("c.safetensors", b"not at all")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name} cannot be read as tensors"):
            read_weights(tmp_path / name, "resnet18")
    with pytest.raises(ModelError, match="give 'timm', a name of torchgeo"):
        read_weights(tmp_path / "none.pth", "resnet18")


def test_timms_weights_are_found_by_name_and_fail_clearly(tmp_path, monkeypatch):
    from timm.models import _registry

    theirs = awake(timm.create_model("test_resnet"))
    published = _registry._model_pretrained_cfgs["test_resnet.r160_in1k"]
    monkeypatch.setattr(published, "file", str(tmp_path / "w.pth"))
    with pytest.raises(ModelError, match="timm/test_resnet.r160_in1k cannot be had: .*give the file") as e:
        encoder("test_resnet", weights="timm")
    assert "\n" not in str(e.value)
    with pytest.raises(ModelError, match="convnext_atto_rms cannot be had: .*No pretrained weights exist"):
        encoder("convnext_atto_rms", weights="timm")
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    net = encoder("test_resnet.r160_in1k", ("nir", "green", "red"), weights="timm")
    first = theirs.conv1[0].weight
    assert torch.allclose(net.net.conv1[0].weight, torch.stack([first.mean(1), first[:, 1], first[:, 0]], 1))
    assert torch.equal(net.net.layer3[0].conv1.weight, theirs.layer3[0].conv1.weight)


@pytest.fixture
def torchgeo(tmp_path, monkeypatch):
    models = pytest.importorskip("torchgeo.models", reason="torchgeo is an extra of xtgeo: pip install 'xtgeo-sat[torchgeo]'")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    return models


def test_torchgeos_weights_are_found_by_name_and_their_bands_too(torchgeo, tmp_path, monkeypatch):
    theirs = awake(timm.create_model("resnet18", in_chans=13, num_classes=0))
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    weight = torchgeo.get_weight("ResNet18_Weights.SENTINEL2_ALL_MOCO")
    monkeypatch.setattr(weight.value, "url", (tmp_path / "published.pth").as_uri())
    state, bands = read_weights("ResNet18_Weights.SENTINEL2_ALL_MOCO", "resnet18")
    assert state.keys() == theirs.state_dict().keys() and bands[:2] == ("B1", "B2")
    net = encoder("resnet18", ("B02", "B8A"), weights="ResNet18_Weights.SENTINEL2_ALL_MOCO")
    assert torch.equal(net.net.conv1.weight, theirs.conv1.weight[:, [1, 8]] * 6.5)


def test_torchgeos_weights_fail_clearly_where_they_cannot_be_had(torchgeo, tmp_path, monkeypatch):
    weight = torchgeo.get_weight("Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS")
    monkeypatch.setattr(weight.value, "url", (tmp_path / "nowhere.pth").as_uri())
    with pytest.raises(ModelError, match="(?s)SENTINEL2_SI_RGB_SATLAS cannot be had .*nowhere.pth: .*give the file") as e:
        encoder("swinv2_tiny_window8_256", weights="Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS")
    assert "\n" not in str(e.value)
    with pytest.raises(ModelError, match="ResNet18_Weights are: .*SENTINEL2_ALL_MOCO"):
        read_weights("ResNet18_Weights.SENTINEL2_ALL_TOMORROW", "resnet18")
    with pytest.raises(ModelError, match="there are: .*ResNet50_Weights"):
        read_weights("ResNet19_Weights.SENTINEL2_ALL_MOCO", "resnet18")


@given(st.integers(1, 13), st.integers(1, 13))
@settings(deadline=None)
def test_bands_without_names_keep_the_sum_over_the_inputs(i, n):
    weight = torch.randn(4, i, 3, 3, dtype=torch.float64)
    adapted = adapt_input(weight, n)
    assert adapted.shape == (4, n, 3, 3) and torch.allclose(adapted.sum(1), weight.sum(1))
    assert torch.equal(adapt_input(weight, i), weight)


@given(st.permutations(range(6)), st.integers(0, 4))
@settings(deadline=None)
def test_named_bands_keep_their_own_weights(order, more):
    weight, theirs = torch.randn(4, 6, 3, 3, dtype=torch.float64), [f"B{k}" for k in range(6)]
    ours = [f"b{k:02}" for k in order] + [f"new {k}" for k in range(more)]
    adapted = adapt_input(weight, ours, theirs)
    share = 6 / len(ours)
    assert torch.allclose(adapted[:, :6], weight[:, list(order)] * share)
    assert torch.allclose(adapted[:, 6:], weight.mean(1, keepdim=True).expand(-1, more, -1, -1) * share)
    assert torch.allclose(adapted.sum(1), weight.sum(1))
    few = adapt_input(weight, ours[:2], theirs)
    assert torch.allclose(few, weight[:, list(order[:2])] * 3)


def test_names_that_no_band_shares_are_taken_in_order():
    weight = torch.randn(4, 3, 3, 3)
    assert torch.equal(adapt_input(weight, ("hh", "hv", "angle"), ("red", "green", "blue")), weight)
    with pytest.raises(ValueError, match="a weight with 3 inputs cannot have"):
        adapt_input(weight, 2, ("red", "green"))
