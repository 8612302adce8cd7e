import math
import weakref
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from xtgeo.errors import ModelError
from xtgeo.model.context import transformer_xl
from xtgeo.model.context.transformer_xl import Sinusoid, TransformerXL, join_segments, split_segments, visits

SPACING, REACH = 100.0, 3_000.0


def build(dim=8, depth=2, **options):
    """Everything in float64, and louder than at birth, so that what is far still counts."""
    torch.manual_seed(0)
    xl = TransformerXL(dim, depth, **{"spacing": SPACING, "reach": REACH, "heads": 2, "segment": 2, **options}).double()
    for name, p in xl.named_parameters():
        p.data = torch.randn_like(p) * (0.1 if p.ndim == 1 else p.shape[-1] ** -0.5) + (".norm" in name and p.ndim == 1)
    return xl


def grid(y, x, dim=8, batch=1):
    torch.manual_seed(1)
    return torch.randn(batch, dim, y, x, dtype=torch.float64), torch.ones(batch, y, x, dtype=torch.bool)


def holes(mask):
    """A mask with single tokens and whole 2 x 2 segments missing, others in each sample."""
    torch.manual_seed(2)
    squares = torch.rand(len(mask), *(-(-side // 2) for side in mask.shape[1:])) < 0.7
    wide = squares.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, : mask.shape[1], : mask.shape[2]]
    return mask & wide & (torch.rand(mask.shape) < 0.8)


def score(xl, block, q, k, down, right):
    """Of q (v, e) and k (v, e), the query `down` and `right` tokens from the key: (v,)."""
    if isinstance(block.positions, Sinusoid):
        f = frequencies(2 * math.pi * SPACING, len(xl.norm.weight) // 4)
        waves = [wave(n * o * SPACING) for o in (down, right) for n in f for wave in (math.cos, math.sin)]
        r = torch.tensor(waves, dtype=torch.float64)
        u, v, w = block.positions.u[:, 0], block.positions.v[:, 0], block.positions.w
        return ((q + u) * k).sum(1) + torch.stack([(q[h] + v[h]) @ w[h] @ r for h in range(len(q))])
    f = frequencies(4 * SPACING, q.shape[1] // 4)
    total = 0
    for pair, angle in enumerate(n * o * SPACING for o in (down, right) for n in f):
        (a, b), (c, d) = q[:, 2 * pair : 2 * pair + 2].T, k[:, 2 * pair : 2 * pair + 2].T
        total = total + (a * c + b * d) * math.cos(angle) + (a * d - b * c) * math.sin(angle)
    return total


def frequencies(shortest, count):
    """Radians a metre at wavelengths that run geometrically from the shortest to REACH."""
    return [2 * math.pi / (shortest * (REACH / shortest) ** (n / max(count - 1, 1))) for n in range(count)]


def learnt(xl, block, place, state, read):
    """What a token makes of (place, state) pairs that it reads."""
    q = block.q(block.norm1(state)).view(block.heads, -1)
    scores, values = [], []
    for there, other in read:
        k, v = block.kv(block.norm1(other)).view(2, block.heads, -1)
        scores.append(score(xl, block, q, k, place[0] - there[0], place[1] - there[1]) / q.shape[1] ** 0.5)
        values.append(v)
    weights = torch.stack(scores).exp()
    a = (weights[..., None] * torch.stack(values)).sum(0) / weights.sum(0)[:, None]
    state = state + block.out(a.flatten())
    return state + block.mlp(block.norm2(state))


def formula(xl, tokens, mask, token=None):
    """tokens (d, y, x), mask (y, x) -> (d, y, x), and what the class token has learnt; everything one at a time."""
    (y, x), side, told = mask.shape, xl.segment, torch.zeros_like(tokens)
    segments = []
    for top in range(0, y, side):
        row = []
        for left in range(0, x, side):
            square = [(i, j) for i in range(top, min(top + side, y)) for j in range(left, min(left + side, x))]
            row.append(((top, left), [place for place in square if mask[place]]))
        segments += row[::-1] if xl.order == "zigzag" and top // side % 2 else row
    segments = [(corner, square) for corner, square in segments if square]
    memory = [[] for _ in xl.blocks]
    for _ in range(2 if xl.order == "two_pass" else 1):
        for number, (corner, square) in enumerate(segments):
            h = [(place, tokens[:, place[0], place[1]]) for place in square]
            if token is not None and number == len(segments) - 1:
                h.append((corner, token))
            for block, remembered in zip(xl.blocks, memory, strict=True):
                read = [(place, s.detach() if xl.detach else s) for segment in remembered for place, s in segment] + h
                remembered.append(h)
                del remembered[: -xl.memory]
                h = [(place, learnt(xl, block, place, state, read)) for place, state in h]
            for (i, j), state in h[: len(square)]:
                told[:, i, j] = xl.norm(state)
    return told, xl.norm(h[-1][1])


@pytest.fixture
def two_at_once(monkeypatch):
    """Two segments of 2 x 2 at once: memory crosses from one lot to the next."""
    monkeypatch.setattr(transformer_xl, "AT_ONCE", 8)


@pytest.mark.parametrize("positions", ["rotary", "sinusoid"])
@pytest.mark.parametrize("memory", [1, 2])
@pytest.mark.parametrize("order", ["raster", "zigzag", "two_pass"])
def test_it_is_the_formula(two_at_once, order, memory, positions):
    xl = build(order=order, memory=memory, positions=positions, class_token=True)
    tokens, mask = grid(5, 6, batch=2)
    mask = holes(mask)
    with torch.no_grad():
        told, classes = xl(tokens, mask), xl.classify(tokens, mask)
        for n in range(2):
            assert torch.allclose(told[n], formula(xl, tokens[n], mask[n])[0], atol=1e-6)  # angles are float32
            assert torch.allclose(classes[n], formula(xl, tokens[n], mask[n], xl.token)[1], atol=1e-6)


@pytest.mark.parametrize("positions", ["rotary", "sinusoid"])
@pytest.mark.parametrize("order", ["raster", "two_pass"])
@pytest.mark.parametrize("detach", [True, False])
def test_gradients_are_those_of_the_formula(two_at_once, detach, order, positions):
    xl = build(order=order, positions=positions, detach=detach)
    tokens, mask = grid(4, 5)
    mask, upstream = holes(mask), torch.randn(1, 8, 4, 5, dtype=torch.float64)
    inputs = [tokens.requires_grad_(), *xl.parameters()]
    ours = torch.autograd.grad((xl(tokens, mask) * upstream).sum(), inputs)
    theirs = torch.autograd.grad((formula(xl, tokens[0], mask[0])[0] * upstream[0]).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))


def reached(xl, source, segments=7):
    """Of a row of segments, those that change when `source` does."""
    tokens, mask = grid(2, 2 * segments)
    changed = tokens.clone()
    changed[..., 2 * source : 2 * source + 2] += torch.randn(1, 8, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        difference = (xl(tokens, mask) - xl(changed, mask)).abs().amax((0, 1, 2)).view(segments, 2).amax(1)
    return [k for k in range(segments) if difference[k] > 1e-10]


@pytest.mark.parametrize(("depth", "memory"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_news_travels_depth_x_memory_segments_onward_and_none_back(two_at_once, depth, memory):
    xl = build(depth=depth, memory=memory)
    assert reached(xl, 2) == list(range(2, min(2 + depth * memory, 6) + 1))
    assert reached(xl, 6) == [6]


def test_in_two_passes_the_first_segments_see_the_last(two_at_once):
    xl = build(depth=2, order="two_pass")
    assert reached(xl, 6) == [0, 1, 6] and reached(xl, 5) == [0, 5, 6] and reached(xl, 3) == [3, 4, 5]


def test_a_wedge_of_nodata_does_not_cut_the_recurrence(two_at_once):
    xl, (tokens, mask) = build(depth=1), grid(2, 10)
    mask[..., 2:8] = False
    changed = tokens.clone()
    changed[..., :2] = tokens[..., :2].flip(1)
    with torch.no_grad():
        assert (xl(tokens, mask) - xl(changed, mask))[..., 8:].abs().max() > 1e-6


@given(st.integers(1, 9), st.integers(1, 9))
def test_in_zigzag_successive_segments_touch(rows, columns):
    order = visits(rows, columns, "zigzag").tolist()
    assert sorted(order) == visits(rows, columns, "raster").tolist() == list(range(rows * columns))
    for a, b in pairwise(divmod(number, columns) for number in order):
        assert abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_join_is_the_inverse_of_split(y, x, side):
    tokens = torch.arange(2 * 3 * y * x).view(2, 3, y, x)
    parts = split_segments(tokens, side)
    assert parts.shape == (2, -(-y // side) * -(-x // side), side * side, 3)
    assert torch.equal(join_segments(parts, side, y, x), tokens)
    assert torch.equal(parts[:, 0, 0], tokens[:, :, 0, 0])
    assert torch.equal(parts[:, -1].amax((1, 2)), tokens[:, 2, -1, -1])


def test_a_detached_memory_says_the_same_and_passes_no_gradient_on():
    gradients, told = {}, {}
    for detach in (True, False):
        xl, (tokens, mask) = build(detach=detach), grid(2, 6)
        told[detach] = xl(tokens.requires_grad_(), mask)
        gradients[detach] = torch.autograd.grad(told[detach][..., 4:].square().sum(), tokens)[0]
    assert torch.equal(told[True], told[False])
    assert (gradients[True][..., :4] == 0).all() and (gradients[True][..., 4:] != 0).all()
    assert (gradients[False] != 0).all()


@pytest.mark.parametrize("positions", ["rotary", "sinusoid"])
def test_gradients_are_those_of_finite_differences(positions):
    xl, (tokens, mask) = build(dim=4, depth=1, heads=1, positions=positions, detach=False, order="two_pass"), grid(2, 3, 4)
    names = ["blocks.0.q.weight", "blocks.0.kv.bias", "blocks.0.out.bias"]
    names += [f"blocks.0.positions.{name}" for name, _ in xl.blocks[0].positions.named_parameters()]
    values = [xl.get_parameter(name).detach().requires_grad_() for name in names]
    mask[0, 0, 1] = False

    def told(tokens, *values):
        return functional_call(xl, dict(zip(names, values, strict=True)), (tokens, mask))

    assert torch.autograd.gradcheck(told, (tokens.requires_grad_(), *values))


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(["raster", "zigzag", "two_pass"]), st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_a_batch_is_its_samples_one_by_one(y, x, order, seed):
    xl, generator = build(order=order, memory=2, class_token=True), torch.Generator().manual_seed(seed)
    tokens, _ = grid(y, x, batch=3)
    mask = torch.rand(3, y, x, generator=generator) < torch.tensor([0.1, 0.4, 1.0])[:, None, None]
    with torch.no_grad():
        alone = [(xl(t[None], m[None]), xl.classify(t[None], m[None])) for t, m in zip(tokens, mask, strict=True)]
        told, classes = (torch.cat(parts) for parts in zip(*alone, strict=True))
        assert torch.allclose(xl(tokens, mask), told, atol=1e-9)
        assert torch.allclose(xl.classify(tokens, mask), classes, atol=1e-9)


@pytest.mark.parametrize("order", ["raster", "two_pass"])
def test_how_many_segments_are_computed_at_once_changes_nothing(monkeypatch, order):
    xl, (tokens, mask), told = build(memory=2, order=order), grid(6, 7), []
    for at_once in (1, 12, 4096):
        monkeypatch.setattr(transformer_xl, "AT_ONCE", at_once)
        told.append(xl(tokens, holes(mask)))
    assert torch.allclose(told[0], told[1], atol=1e-6) and torch.allclose(told[0], told[2], atol=1e-6)


@pytest.mark.parametrize("positions", ["rotary", "sinusoid"])
@pytest.mark.parametrize("order", ["raster", "zigzag", "two_pass"])
def test_masked_tokens_change_nothing_and_an_empty_grid_is_finite(monkeypatch, order, positions):
    def attend(q, k, v, attn_mask, scale):
        assert attn_mask.any(-1).all()  # some kernels answer NaN where there is nothing to look at
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale)

    monkeypatch.setattr(transformer_xl, "F", SimpleNamespace(pad=F.pad, scaled_dot_product_attention=attend))
    xl, (tokens, mask) = build(order=order, positions=positions, class_token=True), grid(5, 7, batch=2)
    mask = holes(mask)
    mask[1] = False
    other = torch.where(mask[:, None], tokens, torch.nan)
    a, b = xl(tokens, mask), xl(other, mask)
    assert torch.equal(a, b) and torch.equal(a.abs().amax(1) > 0, mask)
    assert torch.equal(xl.classify(tokens, mask), xl.classify(other, mask)) and xl.classify(other, mask).isfinite().all()


@pytest.mark.parametrize("positions", ["rotary", "sinusoid"])
@pytest.mark.parametrize("order", ["raster", "zigzag", "two_pass"])
def test_only_offsets_count(order, positions):
    """A frame of empty segments moves everything and changes nothing."""
    xl, (tokens, mask) = build(order=order, positions=positions), grid(5, 6)
    far, there = torch.zeros(1, 8, 13, 10, dtype=torch.float64), torch.zeros(1, 13, 10, dtype=torch.bool)
    far[..., 4:9, 2:8], there[..., 4:9, 2:8] = tokens, True
    with torch.no_grad():
        assert torch.allclose(xl(far, there)[..., 4:9, 2:8], xl(tokens, mask), atol=1e-5)


def test_with_a_suitable_reach_the_waves_are_those_of_the_paper():
    dim = 32
    reach = 2 * math.pi * SPACING * 10_000 ** (1 - 4 / dim)
    turns = Sinusoid(dim, 4, SPACING, reach).turns(torch.tensor([0.0]), torch.tensor([-3 * SPACING]))
    expected = torch.tensor([3 / 10_000 ** (4 * i / dim) for i in range(dim // 4)])
    assert torch.allclose(turns[0].angle(), torch.cat([torch.zeros(dim // 4), expected]), atol=1e-4)


@pytest.mark.parametrize("order", ["raster", "two_pass"])
def test_flops_are_linear_in_the_number_of_segments(monkeypatch, order):
    monkeypatch.setattr(transformer_xl, "AT_ONCE", 16)
    xl, flops = build(order=order), []
    for rows in (4, 8, 12):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            xl(*grid(2 * rows, 4))
        flops.append(counter.get_total_flops())
    assert flops[2] - flops[1] == flops[1] - flops[0] > 0


class Peak(TorchDispatchMode):
    """Bytes of tensors alive at once."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in torch.utils._pytree.tree_leaves(out):
            if isinstance(t, torch.Tensor) and (storage := t.untyped_storage()) not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.free, storage.nbytes())
        return out

    def free(self, size):
        self.now -= size


def peak(y, depth, order):
    xl = TransformerXL(32, depth, spacing=SPACING, segment=4, order=order)
    with torch.inference_mode(), Peak() as counted:
        xl(torch.zeros(1, 32, y, 32), torch.ones(1, y, 32, dtype=torch.bool))
    return counted.most


@pytest.mark.parametrize("order", ["raster", "two_pass"])
def test_a_larger_scene_takes_a_few_copies_of_its_tokens_more_whatever_the_depth(monkeypatch, order):
    monkeypatch.setattr(transformer_xl, "AT_ONCE", 1024)
    for depth in (1, 6):
        assert peak(512, depth, order) - peak(256, depth, order) < 5 * (256 * 32 * 32 * 4)


@pytest.mark.parametrize("positions", ["rotary", "sinusoid"])
@pytest.mark.parametrize("order", ["raster", "two_pass"])
def test_its_memory_can_be_planned_and_it_runs_in_half_precision(order, positions):
    xl, (tokens, mask) = build(order=order, positions=positions, class_token=True).bfloat16(), grid(5, 3)
    told = xl(tokens.bfloat16(), mask)
    assert told.isfinite().all() and told.dtype == torch.bfloat16
    shadow = xl.to("meta")(tokens.bfloat16().to("meta"), mask.to("meta"))
    assert (shadow.shape, shadow.dtype) == (told.shape, told.dtype)


def test_a_class_token_learns_from_the_far_end_if_memory_reaches_there():
    right = {}
    for depth in (1, 2):
        torch.manual_seed(0)
        xl = TransformerXL(16, depth, spacing=SPACING, heads=2, segment=2, detach=False, class_token=True)
        judge, sign = torch.nn.Linear(16, 1), torch.randn(16, 1, 1)
        label, mask = torch.arange(32) % 2, torch.ones(32, 2, 6, dtype=torch.bool)
        learner = torch.optim.Adam([*xl.parameters(), *judge.parameters()], 5e-3)
        for _ in range(60):
            tokens = torch.randn(32, 16, 2, 6)
            tokens[..., :2] += (4 * label - 2)[:, None, None, None] * sign
            verdict = judge(xl.classify(tokens, mask))[:, 0]
            learner.zero_grad()
            F.binary_cross_entropy_with_logits(verdict, label.float()).backward()
            learner.step()
        right[depth] = int(((verdict > 0) == label).sum())
    assert right[2] == 32 and right[1] < 26


def test_what_cannot_be_is_refused_with_what_can():
    for options, message in (
        ({"order": "spiral"}, "raster, zigzag, two_pass"),
        ({"positions": "learnt"}, "rotary, sinusoid"),
        ({"heads": 3}, "multiple of 4 heads"),
        ({"heads": 0}, "at least 1"),
        ({"memory": 0}, "at least 1"),
    ):
        with pytest.raises(ModelError, match=message):
            TransformerXL(32, 2, spacing=SPACING, **options)
