import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from xtgeo.errors import ModelError
from xtgeo.model.context.longformer import Longformer, window_attention
from xtgeo.model.context.positions import places, rotary, rotate


def small(depth=2, **options):
    torch.manual_seed(0)
    values = {"spacing": 640.0, "heads": 2, "radius": 2, "global_tokens": 3, "class_token": True}
    return Longformer(16, depth, **{**values, **options}).eval()


def field(y, x, b=2, share=0.7):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(b, 16, y, x, generator=generator), torch.rand(b, y, x, generator=generator) < share


def neighbours(y, x, radius):
    """(n, n): True where two tokens lie at most `radius` apart in both directions."""
    rows, columns = (t.long() for t in places(y, x, 1, torch.device("cpu")))
    return torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()) <= radius


@given(st.integers(1, 21), st.integers(1, 21), st.integers(0, 10), st.integers(0, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_a_window_is_the_formula_with_a_mask(y, x, radius, g, seed):
    """Any grid, also 1 x n and those that blocks do not divide, against the (n, n + g) matrix."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 2, y, x, 4, generator=generator, dtype=torch.float64)
    scores = torch.randn(2, 2, y, x, g, generator=generator, dtype=torch.float64)
    values = torch.randn(2, 2, g, 4, generator=generator, dtype=torch.float64)
    seen = torch.rand(2, y, x, generator=generator) < 0.8
    told = window_attention(q, k, v, seen, scores, values, radius=radius).flatten(2, 3)
    flat = [t.flatten(2, 3) for t in (q, k, v, scores)]
    pairs = (flat[0] @ flat[1].mT / 2).masked_fill(~(neighbours(y, x, radius) & seen.flatten(1)[:, None, None]), -torch.inf)
    truth = torch.softmax(torch.cat([pairs, flat[3]], -1), -1) @ torch.cat([flat[2], values], 2)
    answered = seen.flatten(1)[:, None].expand(told.shape[:3])
    assert torch.allclose(told[answered], truth[answered], atol=1e-12) and told.isfinite().all()


def naive(encoder, tokens, mask, others):
    """The whole encoder in float64, one item at a time, every attention an explicit (n + g) x (n + g) matrix with a mask."""
    (y, x), g = mask.shape[1:], len(others)
    n, told = y * x, []
    turns = rotary(*places(y, x, encoder.spacing, tokens.device), encoder.width, 4 * encoder.spacing, encoder.reach)
    for item, seen in zip(tokens, mask, strict=True):
        t = torch.cat([item.flatten(1).T, others])
        may = torch.ones(n + g, n + g, dtype=torch.bool)
        may[:n, :n] = neighbours(y, x, encoder.blocks[0].radius)
        may[:, :n] &= seen.flatten()
        for block in encoder.blocks:
            u, heads = block.norm1(t), []
            q, k, v = block.qkv(u).chunk(3, -1)
            gq, (gk, gv) = block.global_q(u), block.global_kv(u).chunk(2, -1)
            for part in torch.arange(t.shape[1]).chunk(block.heads):
                turned = [rotate(z[None, None, :n, part], turns)[0, 0] for z in (q, k)]
                scores = q[:, part] @ k[:, part].T
                scores[:n, :n] = turned[0] @ turned[1].T
                scores[n:] = gq[n:, part] @ gk[:, part].T
                p = torch.softmax((scores / len(part) ** 0.5).masked_fill(~may, -torch.inf), -1).nan_to_num()
                heads.append(torch.cat([p[:n] @ v[:, part], p[n:] @ gv[:, part]]))
            t = t + block.out(torch.cat(heads, -1))
            t = t + block.mlp(block.norm2(t))
        told.append(encoder.norm(t))
    return torch.stack(told)


@pytest.mark.parametrize(("y", "x"), [(5, 7), (1, 19), (17, 3), (9, 9)])
def test_the_encoder_is_the_formula(y, x):
    encoder, (tokens, mask) = small().double(), field(y, x)
    tokens = tokens.double()
    with torch.inference_mode():
        truth = naive(encoder, tokens, mask, encoder.globals)[:, : y * x].mT.unflatten(-1, (y, x)) * mask[:, None]
        assert torch.allclose(encoder(tokens, mask), truth, atol=1e-5)  # angles are float32
        truth = naive(encoder, tokens, mask, torch.cat([encoder.globals, encoder.token[None]]))[:, -1]
        assert torch.allclose(encoder.classify(tokens, mask), truth, atol=1e-5)


def test_masked_tokens_change_nothing():
    encoder, (tokens, mask) = small(), field(11, 13)
    other = torch.where(mask[:, None], tokens, 99.0)
    with torch.inference_mode():
        told = encoder(tokens, mask)
        assert torch.allclose(told, encoder(other, mask), atol=1e-5)
        assert (told[~mask[:, None].expand(told.shape)] == 0).all()
        assert torch.allclose(encoder.classify(tokens, mask), encoder.classify(other, mask), atol=1e-5)


def test_an_empty_tile_is_finite_and_0():
    encoder, (tokens, mask) = small(), field(6, 10, share=0.0)
    tokens.requires_grad_()
    told, said = encoder(tokens, mask), encoder.classify(tokens, mask)
    (told.sum() + said.sum()).backward()
    assert (told == 0).all() and said.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in (tokens, *encoder.parameters()))


def reached(encoder, y, x, at):
    """Which tokens, (y, x), hear of a change of the one at `at`."""
    tokens, mask = field(y, x, b=1, share=2.0)
    tokens = tokens.double()
    changed = tokens.clone()
    changed[:, 0, at[0], at[1]] += 9
    with torch.inference_mode():
        return (encoder.double()(tokens, mask) - encoder(changed, mask)).abs().amax((0, 1)) > 1e-13


@pytest.mark.parametrize(("depth", "radius"), [(1, 2), (1, 3), (2, 2), (3, 1)])
def test_by_neighbours_news_travels_radius_times_depth_and_no_further(depth, radius):
    encoder = small(depth, radius=radius)
    for block in encoder.blocks:  # global tokens that hear nothing
        torch.nn.init.zeros_(block.global_kv.weight)
    y, x, at = 21, 19, (9, 8)
    truth = neighbours(y, x, depth * radius)[at[0] * x + at[1]].view(y, x)
    assert torch.equal(reached(encoder, y, x, at), truth)


def test_by_global_tokens_news_is_everywhere_after_two_blocks_and_not_before():
    assert reached(small(2), 21, 19, (0, 0)).all()
    assert reached(small(1), 21, 19, (0, 0)).sum() == 9


def test_the_class_token_hears_of_every_token():
    encoder, (tokens, mask) = small(1), field(9, 20)
    tokens.requires_grad_()
    encoder.classify(tokens, mask).square().sum().backward()
    assert torch.equal(tokens.grad.abs().sum(1) > 0, mask)


def test_what_a_token_hears_of_its_neighbours_does_not_depend_on_where_it_lies():
    encoder, (tokens, mask) = small(1), field(30, 30, b=1)
    for block in encoder.blocks:
        torch.nn.init.zeros_(block.global_kv.weight)
    with torch.inference_mode():
        whole, part = encoder(tokens, mask), encoder(tokens[..., 3:27, 5:28], mask[:, 3:27, 5:28])
    assert torch.allclose(whole[..., 5:25, 7:26], part[..., 2:22, 2:21], atol=1e-4)


def test_gradients_are_those_of_the_function():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 2, 9, 2, generator=generator, dtype=torch.float64)
    scores = torch.randn(1, 1, 2, 9, 2, generator=generator, dtype=torch.float64)
    values = torch.randn(1, 1, 2, 2, generator=generator, dtype=torch.float64)
    seen = torch.rand(1, 2, 9, generator=generator) < 0.7

    def answered(q, k, v, scores, values):
        return window_attention(q, k, v, seen, scores, values, radius=1) * seen[:, None, ..., None]

    assert torch.autograd.gradcheck(answered, [t.requires_grad_() for t in (q, k, v, scores, values)])


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is made, as it lies in memory."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [t.untyped_storage().nbytes() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.nbytes = max([self.nbytes, *made])
        return out


def test_work_and_memory_are_linear_in_the_tokens():
    encoder = small(1, radius=3).to("meta")
    flops, largest = [], []
    for y in (32, 64, 128, 256):
        tokens, mask = torch.empty(1, 16, y, 32, device="meta"), torch.ones(1, y, 32, dtype=torch.bool, device="meta")
        with FlopCounterMode(display=False) as work, Largest() as memory, sdpa_kernel(SDPBackend.MATH):
            encoder(tokens, mask).sum().backward()
        flops.append(work.get_total_flops())
        largest.append(memory.nbytes)
    steps = [b - a for a, b in zip(flops, flops[1:], strict=False)]
    pairs = 3 * 4 * 32 * 32 * 14**2 * 16  # forward and twice that backward, of q k^T and its product with v
    assert pairs < steps[0] < 10 * pairs and steps == [steps[0], 2 * steps[0], 4 * steps[0]]
    assert largest[3] <= 2 * largest[2] <= 4 * largest[1]


def test_in_inference_one_row_of_blocks_is_unfolded_at_a_time():
    encoder = small(1, radius=7).to("meta")
    tokens, mask = torch.empty(1, 16, 256, 32, device="meta"), torch.ones(1, 256, 32, dtype=torch.bool, device="meta")
    with torch.inference_mode(), Largest() as memory:
        encoder(tokens, mask)
    assert memory.nbytes == 4 * (4 * 16) * (256 * 32 + 3)  # of the MLP; all halos together would be twice that


def test_it_runs_in_bf16():
    encoder, (tokens, mask) = small(), field(9, 13)
    with torch.inference_mode():
        full, half = encoder(tokens, mask), encoder.bfloat16()(tokens.bfloat16(), mask)
    assert half.dtype == torch.bfloat16 and F.mse_loss(half.float(), full) < 0.01 * full.square().mean()


def test_nonsense_is_refused():
    for options in ({"radius": -1}, {"global_tokens": 0}):
        with pytest.raises(ModelError, match="at least 0 and 1"):
            small(**options)
