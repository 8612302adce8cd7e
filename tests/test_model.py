import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xtgeo.errors import ModelError
from xtgeo.model import Model, Spec, build, bundled, fold_batchnorm, load_model, load_spec, save_model
from xtgeo.model.context import Attention, pool_valid, rotary, rotate
from xtgeo.model.head import DenseHead
from xtgeo.model.regions import RegionEncoder, join_regions, split_regions


def spec(**changes):
    values = {
        "name": "test",
        "bands": ("vv", "vh"),
        "units": "db",
        "mean": (-15.0, -25.0),
        "std": (6.0, 5.0),
        "gsd": 10.0,
        "region": 64,
        "span": 2,
        "margin": 16,
        "backbone": "mobilenetv4_conv_small",
        "context": "attention",
        "context_dim": 32,
        "context_stride": 32,
    }
    return Spec(**{**values, **changes})


def awake(model):
    """A model whose gates and running statistics are not those of birth."""
    generator = torch.Generator().manual_seed(1)
    for name, p in model.net.named_parameters():
        if "gates" in name or p.ndim == 1:
            p.data = p.data + 0.3 * torch.randn(p.shape, generator=generator)
    for name, b in model.net.named_buffers():
        if "running_mean" in name:
            b.copy_(0.3 * torch.randn(b.shape, generator=generator))
        if "running_var" in name:
            b.copy_(0.5 + torch.rand(b.shape, generator=generator))
    return model.eval()


def tile(h, w, margin=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn((1, 2, h + 2 * margin, w + 2 * margin), generator=generator) * 5 - 20
    return data, torch.ones((1, h + 2 * margin, w + 2 * margin), dtype=torch.bool)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_join_is_the_inverse_of_split(h, w, region, margin):
    x = torch.arange((h + 2 * margin) * (w + 2 * margin)).view(1, 1, h + 2 * margin, w + 2 * margin)
    inner = x[..., margin : margin + h, margin : margin + w]
    assert torch.equal(join_regions(split_regions(x, region, margin), margin), inner)


@pytest.mark.parametrize(
    "name", ["convnext_atto", "swinv2_tiny_window8_256", "hiera_tiny_224", "mobilenetv4_conv_small", "resnet18"]
)
def test_any_pyramid_takes_any_bands_and_ragged_regions(name):
    encoder = RegionEncoder(name, 5, side=96).eval()
    with torch.inference_mode():
        levels = encoder(torch.zeros(2, 5, 96, 64))
    assert [tuple(level.shape) for level in levels] == [
        (2, c, 96 // s, 64 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)
    ]
    assert encoder.strides[-1] == 16


def test_an_unknown_backbone_is_refused_with_names_that_are_near():
    with pytest.raises(ModelError, match="convnext_atto"):
        RegionEncoder("convnext_giant_of_tomorrow", 2, side=64)
    with pytest.raises(ModelError, match="is no pyramid"):
        RegionEncoder("vit_tiny_patch16_224", 2, side=224)


def test_a_context_that_was_just_born_changes_nothing():
    torch.manual_seed(0)
    plain = Model(build(spec(context="none")), spec(context="none")).eval()
    rich = Model(build(spec()), spec()).eval()
    rich.net.load_state_dict(plain.net.state_dict(), strict=False)
    data, valid = tile(130, 75)
    with torch.inference_mode():
        assert torch.equal(plain(data, valid), rich(data, valid))


def test_without_context_the_tile_is_the_plain_backbone_and_head():
    model = awake(Model(build(spec(context="none", region=128)), spec(context="none", region=128)))
    data, valid = tile(128, 96)
    with torch.inference_mode():
        x = (data - model.mean) / model.std
        inner = [slice(16 // s, -16 // s) for s in model.net.regions.strides]
        levels = [level[..., i, i] for level, i in zip(model.net.regions(x), inner, strict=True)]
        assert torch.equal(model.net.head(levels), model.logits(data, valid))


def test_context_reaches_across_the_tile_and_none_does_not():
    reached = {}
    for context in ("attention", "none"):
        torch.manual_seed(0)
        model = awake(Model(build(spec(context=context, region=32)), spec(context=context, region=32)))
        data, valid = tile(256, 256)
        changed = data.clone()
        changed[..., :16, :16] += 20
        changed[..., 16:48, 16:48] += 20
        with torch.inference_mode():
            difference = (model.logits(data, valid) - model.logits(changed, valid)).abs()
        reached[context] = float(difference[..., 224:, 224:].max())
    assert reached["attention"] > 1e-5 and reached["none"] == 0


@given(st.integers(17, 140), st.integers(17, 140))
@settings(max_examples=6, deadline=None)
def test_any_size_is_answered_pixel_by_pixel(h, w):
    model = Model(build(spec()), spec()).eval()
    with torch.inference_mode():
        assert model(*tile(h, w)).shape == (1, 1, h, w)


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "convnext_atto"])
def test_regions_agree_where_they_meet_better_with_a_margin(name):
    torch.manual_seed(0)
    seams = {}
    for margin in (0, 32):
        one, many = (spec(backbone=name, context="none", region=r, margin=margin) for r in (128, 64))
        whole, parts = Model(build(one), one).eval(), Model(build(many), many).eval()
        parts.net.load_state_dict(whole.net.state_dict(), strict=False)
        data, valid = tile(128, 128, margin)
        with torch.inference_mode():
            difference = (whole.logits(data, valid) - parts.logits(data, valid)).abs()[0, 0]
        seams[margin] = difference[:, 56:72].mean().item()
    assert seams[32] < seams[0]


def test_batches_of_regions_change_rounding_only():
    model = awake(Model(build(spec()), spec()))
    data, valid = tile(150, 200)
    with torch.inference_mode():
        model.net.batch = 1
        one = model(data, valid)
        model.net.batch = 4
        assert torch.allclose(one, model(data, valid), atol=1e-4)


def test_what_lies_under_the_mask_changes_nothing():
    model = awake(Model(build(spec()), spec()))
    data, valid = tile(100, 100)
    valid[:, :70, :60] = False
    other = torch.where(valid[:, None], data, 1e4)
    with torch.inference_mode():
        assert torch.equal(model(data, valid), model(other, valid))


def test_masked_tokens_change_nothing_and_an_empty_tile_is_finite():
    torch.manual_seed(0)
    attention = Attention(32, 2, spacing=640.0).eval()
    tokens, mask = torch.randn(1, 32, 5, 7), torch.ones(1, 5, 7, dtype=torch.bool)
    mask[:, 2:, 3:] = False
    with torch.inference_mode():
        a = attention(tokens, mask)
        b = attention(torch.where(mask[:, None], tokens, 99.0), mask)
        assert torch.allclose(a, b, atol=1e-6) and (a[:, :, 2:, 3:] == 0).all()
        assert attention(tokens, torch.zeros_like(mask)).isfinite().all()


def test_attention_is_the_formula():
    """One block against softmax((R q)(R k)^T / sqrt(e)) v written out in float64."""
    torch.manual_seed(0)
    attention = Attention(16, 1, spacing=100.0, heads=2).double().eval()
    tokens, block = torch.randn(1, 16, 2, 3, dtype=torch.float64), attention.blocks[0]
    t = tokens[0].flatten(1).T
    y, x = torch.meshgrid(torch.arange(2) * 100.0, torch.arange(3) * 100.0, indexing="ij")
    turns = rotary(y.flatten(), x.flatten(), 8, 400.0, 60_000.0)
    q, k, v = block.qkv(block.norm1(t)).view(6, 3, 2, 8).unbind(1)
    out = torch.empty(6, 16, dtype=torch.float64)
    for head in range(2):
        rq, rk = (
            torch.view_as_real(torch.view_as_complex(z[:, head].reshape(6, 4, 2).contiguous()) * turns).reshape(6, 8)
            for z in (q, k)
        )
        out[:, head * 8 : head * 8 + 8] = torch.softmax(rq @ rk.T / 8**0.5, -1) @ v[:, head]
    t = t + block.out(out)
    t = attention.norm(t + block.mlp(block.norm2(t)))
    told = attention(tokens, torch.ones(1, 2, 3, dtype=torch.bool))
    assert torch.allclose(told[0].flatten(1).T, t, atol=1e-5)  # rotations are float32


def test_positions_are_relative():
    y, x = torch.rand(5) * 1e4, torch.rand(5) * 1e4
    q, k = torch.randn(1, 1, 5, 16), torch.randn(1, 1, 5, 16)
    here, there = (rotary(y + d, x - d, 16, 100.0, 6e4) for d in (0.0, 7000.0))
    scores = [rotate(q, turns) @ rotate(k, turns).mT for turns in (here, there)]
    assert torch.allclose(*scores, atol=1e-2)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**31))
@settings(deadline=None)
def test_pooling_counts_valid_pixels_only(h, w, size, seed):
    rng = np.random.default_rng(seed)
    x, valid = rng.normal(size=(1, 2, h, w)), rng.random((1, h, w)) < 0.6
    pooled, mask = pool_valid(torch.from_numpy(x), torch.from_numpy(valid), size)
    for i in range(-(-h // size)):
        for j in range(-(-w // size)):
            square = np.s_[i * size : (i + 1) * size], np.s_[j * size : (j + 1) * size]
            seen = valid[0][square]
            assert bool(mask[0, i, j]) == seen.any()
            expected = x[0][(slice(None), *square)][:, seen].mean(1) if seen.any() else np.zeros(2)
            assert np.allclose(pooled[0, :, i, j], expected)


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "resnet18", "efficientnet_b0"])
def test_folding_batch_normalisation_keeps_the_function(name):
    model = awake(Model(build(spec(backbone=name)), spec(backbone=name)))
    data, valid = tile(100, 60)
    with torch.inference_mode():
        before = model.logits(data, valid)
        folded = fold_batchnorm(model)
        assert torch.allclose(before, folded.logits(data, valid), atol=1e-3 * float(before.abs().max()))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.net.modules())


@pytest.mark.parametrize("strides", [[2, 4, 8, 16], [4, 8, 16], [4, 16]])
@pytest.mark.parametrize("rows", [16, 256, 272, 400])
def test_answering_in_strips_is_answering_at_once(strides, rows):
    head = DenseHead([8] * len(strides), strides, answers=2, dim=8).double()
    levels = [torch.randn(1, 8, rows * 2 // s, 96 // s, dtype=torch.float64) for s in strides]
    whole = head(levels)
    with torch.inference_mode():
        strips = head(levels)
    assert torch.allclose(whole, strips, atol=1e-12)


def test_a_network_of_ones_own_runs_with_a_spec():
    class Double(nn.Module):
        def forward(self, x):
            assert x.shape[-1] % 32 == x.shape[-2] % 32 == 0
            return 2 * x[:, :1]

    mine = spec(backbone="", stride=32, margin=7, region=64)
    model = Model(Double(), mine)
    data, valid = tile(50, 41, margin=7)
    expected = torch.sigmoid(2 * (data[:, :1, 7:57, 7:48] + 15) / 6)
    assert torch.allclose(model(data, valid), expected)


@pytest.mark.parametrize("net", [nn.Conv2d(2, 3, 1), nn.Conv2d(2, 1, 2, 2)])
def test_a_network_that_answers_otherwise_than_its_spec_is_refused(net):
    model = Model(net, spec(backbone="", stride=32, margin=0, region=64))
    with pytest.raises(ModelError, match="its spec wants 1 channels"):
        model(*tile(64, 64))


def test_softmax_models_give_probabilities_that_add_up():
    two = spec(activation="softmax", classes=("sea", "ship"))
    model = Model(build(two), two).eval()
    with torch.inference_mode():
        p = model(*tile(40, 40))
    assert p.shape == (1, 3, 40, 40) and torch.allclose(p.sum(1), torch.ones(1, 40, 40), atol=1e-5)


def test_weights_and_spec_come_back_as_they_went(tmp_path):
    model = awake(Model(build(spec(provenance={"seed": 3, "note": "ä"})), spec(provenance={"seed": 3, "note": "ä"})))
    path = save_model(model, tmp_path / "m.safetensors")
    again = load_model(path)
    assert again.spec == model.spec == load_spec(path)
    data, valid = tile(33, 47)
    with torch.inference_mode():
        assert torch.equal(model(data, valid), again(data, valid))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_weights_that_are_no_weights_are_refused(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "a.safetensors").write_bytes(b"not at all")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors", metadata={"spec": spec().to_json()})
    save_file({"x": torch.zeros(1)}, tmp_path / "d.safetensors", metadata={"spec": '{"name": 1}'})
    for name, message in (
        ("a", "not a readable safetensors"),
        ("b", "no xtgeo spec"),
        ("c", "do not fit their own spec"),
        ("d", "cannot be read"),
        ("e", "no model"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path / f"{name}.safetensors")


def test_a_spec_that_cannot_be_is_refused():
    for changes in ({"std": (0.0, 1.0)}, {"mean": (1.0,)}, {"activation": "relu"}, {"margin": 5}, {"optional": ("hh",)}):
        with pytest.raises(ValueError):
            spec(**changes)
    assert dataclasses.replace(spec(), activation="softmax").channels == 2


def test_bundled_models_are_small_and_documented():
    from xtgeo.model.weights import BUNDLED

    assert {"points-sar", "vessels-s2", "vessels-sar"} <= set(bundled())
    assert sum((BUNDLED / f"{name}.safetensors").stat().st_size for name in bundled()) < 25e6
    for name in bundled():
        card = (BUNDLED / f"{name}.md").read_text()
        assert load_spec(name).name == name and all(word in card for word in ("Data", "Licence", "Figures", "Limits"))


@pytest.mark.parametrize("missing", ["vv", "vh"])
def test_the_radar_model_answers_without_one_polarisation(missing):
    model = load_model("vessels-sar")
    data = torch.tensor(model.spec.mean).view(1, 2, 1, 1).expand(1, 2, 160, 160).clone()
    data += torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
    data[:, :, 78:84, 70:90] = 8.0
    data[:, model.spec.bands.index(missing)] = model.spec.mean[model.spec.bands.index(missing)]
    with torch.inference_mode():
        p = F.max_pool2d(model(data, torch.ones(1, 160, 160, dtype=torch.bool)), 5, 1, 2)[0, 0]
    assert p[64, 64] > 0.6 > 3 * p[10:40, 10:40].max()
