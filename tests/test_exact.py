from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xtgeo.model import Spec, build
from xtgeo.train.exact import classifier_step, dense_step, tiles_of
from xtgeo.window import Nest

SPEC = Spec(
    name="test",
    bands=("vv", "vh"),
    units="db",
    mean=(0.0, 0.0),
    std=(1.0, 1.0),
    gsd=10.0,
    region=32,
    span=1,
    margin=16,
    backbone="convnext_atto",
    context="attention",
    context_dim=16,
    context_stride=16,
    head_dim=8,
)


def network(spec=SPEC):
    """In float64, its gates open, with dropout in encoder, context and head."""
    torch.manual_seed(0)
    net = build(spec, drop_path=0.3).double().train()
    if spec.context != "none" and spec.task == "segment":
        for gate in net.context.gates:
            gate.reset_parameters()
        for i, refine in enumerate(net.head.refine):
            net.head.refine[i] = nn.Sequential(refine, nn.Dropout(0.2))
    return net


def image(h=70, w=50):
    x = torch.randn(1, 2, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(1, h, w, dtype=torch.bool)
    valid[:, 40:, :20] = False
    return x * valid[:, None], valid


def seeded(seed, tile):
    torch.manual_seed((seed << 32) + tile.index)


def whole_graph(net, nest, read, seed):
    """Levels of every tile and all tokens, under plain autograd."""
    levels, rows = {}, []
    for i, j in product(*map(range, nest.grid)):
        tile = nest[i * nest.grid[1] + j]
        x, valid = read(tile)
        seeded(seed, tile)
        found, core = net.encode(x, valid)
        levels[tile.index] = found, torch.get_rng_state()
        if j == 0:
            rows.append([])
        rows[-1].append(net.context.gather(found, core))
    tokens = torch.cat([torch.cat([t for t, _ in row], -1) for row in rows], -2)
    mask = torch.cat([torch.cat([m for _, m in row], -1) for row in rows], -2)
    return levels, tokens, mask


def dense_loss(logits, tile):
    return (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum() + F.softplus(logits).sum()


def gradients(net):
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad(set_to_none=True)
    return found


def assert_equal(a, b, tolerance=1e-9):
    assert set(a) == set(b) and len(a) > 20
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=1e-6, atol=tolerance * float(b[name].abs().max() + 1)), name


@pytest.mark.parametrize("span", [1, 2])
def test_the_gradients_of_a_dense_step_are_those_of_plain_autograd(span):
    net, (x, valid) = network(), image()
    nest = Nest(x.shape[-2:], SPEC.region, span, SPEC.margin)
    read = tiles_of(x, valid, nest.margin)
    levels, tokens, mask = whole_graph(net, nest, read, seed=5)
    told = F.pad(net.context.encoder(tokens, mask), (1, 1, 1, 1), mode="replicate")
    total = 0.0
    for tile in nest:
        found, state = levels[tile.index]
        torch.set_rng_state(state)
        s, core = SPEC.context_stride, tile.core
        y, x0 = core.y // s, core.x // s
        part = told[..., y : y - (-core.h // s) + 2, x0 : x0 - (-core.w // s) + 2]
        total = total + dense_loss(net.answer(net.context.spread(found, part, rim=1), read(tile)[0].shape), tile)
    total.backward()
    expected = gradients(net)
    value = dense_step(net, nest, read, dense_loss, seed=5)
    assert value == pytest.approx(total.item(), rel=1e-12)
    assert_equal(gradients(net), expected)


def test_the_gradients_of_a_classifier_step_are_those_of_plain_autograd():
    spec = Spec(**{**vars(SPEC), "task": "classify", "classes": ("a", "b", "c"), "activation": "softmax"})
    net, (x, valid) = network(spec), image()
    nest = Nest(x.shape[-2:], SPEC.region, 1, SPEC.margin)
    read = tiles_of(x, valid, nest.margin)
    _, tokens, mask = whole_graph(net, nest, read, seed=2)
    loss = lambda logits: F.cross_entropy(logits, torch.tensor([1]))  # noqa: E731
    expected_value = loss(net.head(net.context.encoder.classify(tokens, mask)))
    expected_value.backward()
    expected = gradients(net)
    assert classifier_step(net, nest, read, loss, seed=2) == pytest.approx(expected_value.item(), rel=1e-12)
    assert_equal(gradients(net), expected)


def test_without_context_every_tile_stands_alone():
    spec = Spec(**{**vars(SPEC), "context": "none"})
    net, (x, valid) = network(spec), image()
    nest = Nest(x.shape[-2:], SPEC.region, 1, SPEC.margin)
    read = tiles_of(x, valid, nest.margin)
    total = 0.0
    for tile in nest:
        seeded(3, tile)
        total = total + dense_loss(net(*read(tile)), tile)
    total.backward()
    expected = gradients(net)
    assert dense_step(net, nest, read, dense_loss, seed=3) == pytest.approx(total.item(), rel=1e-12)
    assert_equal(gradients(net), expected)


def test_a_share_of_the_tiles_estimates_the_gradient_without_bias():
    """The mean over all 2**3 choices of tiles, each weighed by its probability, is the gradient."""
    net, (x, valid) = network(), image(70, 30)
    net.eval()
    nest = Nest(x.shape[-2:], SPEC.region, 1, SPEC.margin)
    read = tiles_of(x, valid, nest.margin)
    dense_step(net, nest, read, dense_loss)
    expected = gradients(net)
    mean = {name: torch.zeros_like(g) for name, g in expected.items()}
    share, tiles = 0.4, len(nest)
    choices = {}
    for seed in range(1000):
        draw = torch.Generator().manual_seed(seed)
        choices.setdefault(tuple((torch.rand(tiles, generator=draw) < share).tolist()), seed)
        if len(choices) == 2**tiles:
            break
    assert len(choices) == 2**tiles
    for chosen, seed in choices.items():
        dense_step(net, nest, read, dense_loss, seed=seed, share=share)
        for name, g in gradients(net).items():
            mean[name] += share ** sum(chosen) * (1 - share) ** (tiles - sum(chosen)) * g
    assert_equal(mean, expected)


def test_random_numbers_outside_go_on_as_if_nothing_had_been_drawn():
    net, (x, valid) = network(), image()
    nest = Nest(x.shape[-2:], SPEC.region, 2, SPEC.margin)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    net.context.encoder.eval()
    dense_step(net, nest, tiles_of(x, valid, nest.margin), dense_loss)
    assert torch.equal(before, torch.get_rng_state())


def test_batch_normalisation_in_training_is_refused_and_in_evaluation_is_not():
    spec = Spec(**{**vars(SPEC), "backbone": "mobilenetv4_conv_small"})
    net, (x, valid) = build(spec).double(), image()
    nest = Nest(x.shape[-2:], SPEC.region, 1, SPEC.margin)
    with pytest.raises(ValueError, match="batch normalisation"):
        dense_step(net.train(), nest, tiles_of(x, valid, nest.margin), dense_loss)
    dense_step(net.eval(), nest, tiles_of(x, valid, nest.margin), dense_loss)
    with pytest.raises(ValueError, match="share"):
        dense_step(net, nest, tiles_of(x, valid, nest.margin), dense_loss, share=0.0)
