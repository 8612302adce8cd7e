"""Laws that hold for every context encoder, whatever it is made of."""

import pytest
import torch

from xtgeo.engine import Engine, context_bytes, forward_bytes
from xtgeo.errors import ModelError
from xtgeo.model import Model, Spec, build, load_model, save_model
from xtgeo.model.context import ENCODERS, context_encoder

SMALL = {"hyper": {"min_seq_len": 16, "block": 8, "samples": 8}, "transformer_xl": {"segment": 3}, "longformer": {"radius": 2}}
NAMES = sorted(ENCODERS)


def encoder(name, **options):
    torch.manual_seed(0)
    return context_encoder(name, 32, 2, spacing=640.0, options=SMALL.get(name), **options).eval()


def spec(context, **changes):
    values = {
        "name": "test", "bands": ("vv", "vh"), "units": "db", "mean": (-15.0, -25.0), "std": (6.0, 5.0), "gsd": 10.0,
        "region": 64, "span": 2, "margin": 16, "backbone": "convnext_atto", "context": context, "context_dim": 32,
        "context_stride": 16, "context_options": SMALL.get(context, {}),
    }  # fmt: skip
    return Spec(**{**values, **changes})


def tokens(h=7, w=9, b=2):
    x = torch.randn(b, 32, h, w, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(b, h, w, dtype=torch.bool)
    mask[0, :3, :4], mask[1, 5:] = False, False
    return x, mask


@pytest.mark.parametrize("name", NAMES)
def test_shape_stays_masked_tokens_change_nothing_and_nothing_is_told_to_them(name):
    context, (x, mask) = encoder(name), tokens()
    with torch.inference_mode():
        told = context(x, mask)
        other = context(torch.where(mask[:, None], x, 77.0), mask)
    assert told.shape == x.shape and torch.allclose(told, other, atol=1e-5)
    assert (told.permute(0, 2, 3, 1)[~mask] == 0).all() and (told.permute(0, 2, 3, 1)[mask] != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_samples_and_nothing_seen_is_finite(name):
    context, (x, mask) = encoder(name, class_token=True), tokens()
    with torch.inference_mode():
        told, classed = context(x, mask), context.classify(x, mask)
        for i in range(2):
            alone = x[i : i + 1], mask[i : i + 1]
            assert torch.allclose(told[i : i + 1], context(*alone), atol=1e-5)
            assert torch.allclose(classed[i : i + 1], context.classify(*alone), atol=1e-5)
        assert (context(x, torch.zeros_like(mask)) == 0).all()
        assert context.classify(x, torch.zeros_like(mask)).isfinite().all()
    assert classed.shape == (2, 32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 13), (13, 1), (5, 4)])
def test_grids_of_any_shape(name, shape):
    context = encoder(name)
    x = torch.randn(1, 32, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert context(x, torch.ones(1, *shape, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_it_is_built_trained_saved_loaded_and_planned(name, tmp_path):
    torch.manual_seed(0)
    model = Model(build(spec(name)), spec(name))
    for gate in model.net.context.gates:
        gate.reset_parameters()
    data = torch.randn(1, 2, 132, 100, generator=torch.Generator().manual_seed(3)) * 5 - 20
    valid = torch.ones(1, 132, 100, dtype=torch.bool)
    model.train().logits(data.clone(), valid).square().mean().backward()
    learnt = {key.split(".")[0] for key, p in model.net.context.encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert "blocks" in learnt and "norm" in learnt
    again = load_model(save_model(model, tmp_path / "m.safetensors"))
    assert again.spec == model.spec
    with torch.inference_mode():
        assert torch.equal(model.eval()(data.clone(), valid), again(data.clone(), valid))
    engine = Engine(keep_memory=False)
    assert forward_bytes(again, engine, (132, 100)) > data.nbytes
    kept, meeting = context_bytes(again, engine, (40, 30))
    assert kept == 2 * 40 * 30 * 32 * 4 and meeting > 40 * 30 * 32 * 4


@pytest.mark.parametrize("name", [*NAMES, "none"])
def test_a_classifier_of_whole_images_listens_to_every_region(name):
    torch.manual_seed(0)
    one = spec(name, task="classify", classes=("a", "b", "c"), activation="softmax", context_options={})
    model = Model(build(one), one).eval()
    data = torch.randn(2, 2, 132, 164, generator=torch.Generator().manual_seed(3)) * 5 - 20
    valid = torch.ones(2, 132, 164, dtype=torch.bool)
    with torch.inference_mode():
        p = model(data.clone(), valid)
        assert p.shape == (2, 3) and torch.allclose(p.sum(1), torch.ones(2), atol=1e-5)
        for y, x in ((0, 0), (90, 120)):
            other = data.clone()
            other[:, :, y : y + 40, x : x + 40] += 10
            assert not torch.equal(model(other, valid), p)


def test_unknown_names_and_options_are_refused_with_those_there_are():
    with pytest.raises(ModelError, match="choose one of attention, hyper"):
        context_encoder("telepathy", 32, 2, spacing=1.0)
    with pytest.raises(ModelError, match="has no option colour; it has group, heads, reach"):
        context_encoder("attention", 32, 2, spacing=1.0, options={"colour": 1})


def test_two_levels_of_attention_are_the_formula():
    """Means of groups attend to each other, then every token reads them: written out in float64."""
    from xtgeo.model.context import rotary, rotate

    torch.manual_seed(0)
    context = context_encoder("attention", 16, 1, spacing=100.0, options={"group": 2, "heads": 2}).double().eval()
    x = torch.randn(1, 16, 4, 6, dtype=torch.float64)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    mask[0, :2, :3] = False
    groups, centres = [], []
    for i in range(2):
        for j in range(3):
            square = _square(i, j)
            seen = mask[0][square]
            if seen.any():
                groups.append(x[0][(slice(None), *square)][:, seen].mean(1))
                centres.append((i * 200.0 + 50, j * 200.0 + 50))
    t, at = torch.stack(groups), torch.tensor(centres)

    def turned(z, y, w):
        return rotate(z.unflatten(-1, (2, 8)).transpose(0, 1)[None], rotary(y, w, 8, 400.0, 60_000.0))[0]

    block, read = context.blocks[0], context.read
    q, k, v = block.qkv(block.norm1(t)).chunk(3, -1)
    weights = torch.softmax(turned(q, *at.T) @ turned(k, *at.T).mT / 8**0.5, -1)
    t = t + block.out((weights @ v.unflatten(-1, (2, 8)).transpose(0, 1)).transpose(0, 1).flatten(1))
    t = t + block.mlp(block.norm2(t))
    own = x[0].flatten(1).T
    y, w = (g.flatten().double() * 100 for g in torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij"))
    k, v = read.kv(read.norm2(t)).chunk(2, -1)
    weights = torch.softmax(turned(read.q(read.norm1(own)), y, w) @ turned(k, *at.T).mT / 8**0.5, -1)
    own = own + read.out((weights @ v.unflatten(-1, (2, 8)).transpose(0, 1)).transpose(0, 1).flatten(1))
    own = context.norm(own + read.mlp(read.norm3(own))) * mask.flatten()[:, None]
    assert torch.allclose(context(x, mask)[0].flatten(1).T, own, atol=1e-6)


def _square(i, j):
    return slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
