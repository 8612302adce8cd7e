import pytest
import torch
import torch.nn.functional as F
from forked import Forked
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from xtgeo.errors import ModelError
from xtgeo.model.context import Attention
from xtgeo.model.context.hyper import NEVER, Hyper, gray_rank, hyper_attention, plan_lists


def tokens(n, *, b=1, heads=2, e=8, seed=0, dtype=torch.float64):
    """q, k, v (b, heads, n, e)."""
    return torch.randn(3, b, heads, n, e, generator=torch.Generator().manual_seed(seed), dtype=dtype).unbind()


def some(n, share=0.7, *, b=1, seed=0):
    """Which of n tokens are seen, (b, n); at least the first."""
    seen = torch.rand(b, n, generator=torch.Generator().manual_seed(seed)) < share
    seen[:, 0] = True
    return seen


def exact(q, k, v, seen, causal=False):
    """The formula, row by row of the (n, n) matrix."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    looked_at = seen[:, None, None].expand(scores.shape)
    if causal:
        looked_at = looked_at & torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return torch.softmax(scores.masked_fill(~looked_at, -torch.inf), -1) @ v


def weights(q, k, seen, **options):
    """The weight of every key for every query, (b, v, n, n): what the lists of `plan_lists` say, added up."""
    options = {"block": 4, "samples": 3, "bits": 3, "seed": 0, "causal": False} | options
    slots, _, keys, bias = plan_lists(q, k, seen, **options)
    table = torch.zeros(*keys.shape[:3], k.shape[2], dtype=torch.float64)
    table.scatter_add_(-1, keys, bias[..., 0, :].double().exp().expand(keys.shape))  # (b, v, c, n)
    of = slots // options["block"]
    return table.gather(2, of[..., None].expand(*of.shape, k.shape[2]))


def test_up_to_min_seq_len_it_is_exact():
    (q, k, v), seen = tokens(50), some(50)
    for causal in (False, True):
        told = hyper_attention(q, k, v, seen, block=8, samples=8, min_seq_len=50, causal=causal)
        assert torch.allclose(told, exact(q, k, v, seen, causal), atol=1e-12)
        assert not torch.allclose(
            hyper_attention(q, k, v, seen, block=8, samples=8, min_seq_len=20, causal=causal), told, atol=1e-3
        )


@given(st.integers(1, 70), st.integers(1, 40), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_samples_for_all_remaining_keys_or_one_block_for_all_make_it_exact(n, block, causal, seed):
    (q, k, v), seen = tokens(n, b=2, seed=seed), some(n, b=2, seed=seed)
    truth = exact(q, k, v, seen, causal)
    for options in ({"block": block, "samples": max(1, n - 1)}, {"block": n + seed % 3, "samples": 1}):
        told = hyper_attention(q, k, v, seen, min_seq_len=0, seed=seed, causal=causal, **options)
        assert torch.allclose(told[seen[:, None].expand(told.shape[:3])], truth[seen[:, None].expand(told.shape[:3])], atol=1e-10)


def test_n_minus_block_samples_are_all_where_blocks_are_full():
    (q, k, v), seen = tokens(48), some(48, 2.0)
    told = hyper_attention(q, k, v, seen, min_seq_len=0, block=8, samples=40)
    assert torch.allclose(told, exact(q, k, v, seen), atol=1e-10)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_the_weights_of_a_list_add_up_to_the_seen_keys_and_no_key_comes_twice(n, block, samples, causal, seed):
    (q, k, _), seen = tokens(n, b=2, seed=seed), some(n, b=2, seed=seed)
    options = {"block": block, "samples": samples, "seed": seed, "causal": causal}
    w = weights(q, k, seen, **options)
    assert torch.allclose(w.sum(-1), seen.sum(1).double()[:, None, None].expand(w.shape[:3]), rtol=1e-5)
    assert (w[~seen[:, None, None].expand(w.shape)] == 0).all()
    _, _, keys, bias = plan_lists(q, k, seen, bits=3, **options)
    for row, counts in zip(keys.flatten(0, 2), (bias > NEVER / 2)[..., 0, :].expand(keys.shape).flatten(0, 2), strict=True):
        assert len(row[counts].unique()) == counts.sum()


@pytest.mark.parametrize("causal", [False, True])
def test_numerator_and_denominator_are_right_in_the_mean_over_seeds(causal):
    """The law of large numbers, to five standard errors; the estimates of single seeds are far off."""
    (q, k, v), seen = tokens(27), some(27)
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)  # the last channel is the denominator
    masses = (q @ k.mT / 8**0.5).exp()
    truth = (masses * seen[:, None, None]) @ v
    estimates = torch.stack([(masses * weights(q, k, seen, seed=s, causal=causal)) @ v for s in range(300)])
    error = (estimates.mean(0) - truth) / (estimates.std(0) / len(estimates) ** 0.5)
    assert error.abs().max() < 5
    assert (estimates.std(0) / truth.abs()).mean() > 0.1


@pytest.mark.parametrize("causal", [False, True])
def test_the_error_falls_with_more_samples(causal):
    (q, k, v), seen = tokens(256, e=4), some(256)
    truth, errors = exact(q, k, v, seen, causal)[:, :, seen[0]], []
    for samples in (4, 16, 64):
        told = [
            hyper_attention(q, k, v, seen, block=32, samples=samples, min_seq_len=0, seed=s, causal=causal) for s in range(4)
        ]
        errors.append(sum(float((t[:, :, seen[0]] - truth).norm()) for t in told))
    assert all(more < 0.75 * less for less, more in zip(errors, errors[1:], strict=False))


def test_hashing_finds_the_keys_that_matter():
    """The share of the softmax that lies in a query's own block, an eighth of the tokens, which are in 16 tight clusters."""
    generator = torch.Generator().manual_seed(0)
    centres, which = torch.randn(16, 16, generator=generator), torch.randint(16, (2, 512), generator=generator)
    q, k = (2 * centres[which] + 0.1 * torch.randn(2, 512, 16, generator=generator))[:, None, None]
    truth, seen = torch.softmax(q @ k.mT / 4, -1), torch.ones(1, 512, dtype=torch.bool)
    found = {}
    for bits in (1, 7):
        shares = []
        for seed in range(4):
            slots, _, keys, _ = plan_lists(q, k, seen, block=64, samples=1, bits=bits, seed=seed, causal=False)
            own = keys[..., :64].gather(2, (slots // 64)[..., None].expand(1, 1, 512, 64))
            shares.append(truth.gather(-1, own).sum(-1).mean())
        found[bits] = float(sum(shares)) / 4
    assert found[1] < 0.3 and found[7] > 0.65, found


def test_neighbouring_ranks_differ_in_one_side():
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 5)
    ranks = gray_rank(corners, torch.eye(5))
    walk = corners[ranks.argsort()]
    assert sorted(ranks.tolist()) == list(range(32)) and ((walk[1:] != walk[:-1]).sum(1) == 1).all()


@pytest.mark.parametrize("causal", [False, True])
def test_masked_tokens_change_nothing(causal):
    (q, k, v), seen = tokens(90, b=2), some(90, b=2)
    hidden = ~seen[:, None, :, None]
    options = {"block": 16, "samples": 8, "min_seq_len": 0, "causal": causal}
    told = hyper_attention(q, k, v, seen, **options)
    other = hyper_attention(*(torch.where(hidden, 99.0 * t.flip(2), t) for t in (q, k, v)), seen, **options)
    answered = seen[:, None].expand(told.shape[:3])
    assert torch.allclose(told[answered], other[answered], atol=1e-12) and told.isfinite().all() and other.isfinite().all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("min_seq_len", [0, 30])
def test_where_nothing_is_seen_all_may_be_looked_at(causal, min_seq_len):
    (q, k, v), none = tokens(30), torch.zeros(1, 30, dtype=torch.bool)
    options = {"block": 8, "samples": 4, "min_seq_len": min_seq_len, "causal": causal}
    assert torch.equal(hyper_attention(q, k, v, none, **options), hyper_attention(q, k, v, ~none, **options))


def test_an_item_of_a_batch_knows_nothing_of_the_others():
    (q, k, v), seen = tokens(90, b=3), some(90, b=3)
    together = hyper_attention(q, k, v, seen, block=16, samples=8, min_seq_len=0)
    alone = hyper_attention(q[1:2], k[1:2], v[1:2], seen[1:2], block=16, samples=8, min_seq_len=0)
    assert torch.allclose(together[1:2], alone, atol=1e-12)


@pytest.mark.parametrize("n", [33, 64, 77])
def test_causally_no_token_knows_of_later_ones(n):
    (q, k, v), (q2, k2, v2), seen = tokens(n), tokens(n, seed=1), some(n)
    options = {"block": 8, "samples": 4, "min_seq_len": 0, "causal": True}
    told = hyper_attention(q, k, v, seen, **options)
    for i in range(1, n, 11):
        changed = (torch.cat([a[:, :, :i], 3 * z[:, :, i:]], 2) for a, z in ((q, q2), (k, k2), (v, v2)))
        other = hyper_attention(*changed, torch.cat([seen[:, :i], ~seen[:, i:]], 1), **options)
        assert torch.allclose(told[:, :, :i][:, :, seen[0, :i]], other[:, :, :i][:, :, seen[0, :i]], atol=1e-10)
        assert not torch.allclose(told[:, :, i:], other[:, :, i:], atol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_the_function(causal):
    (q, k, v), seen = (t.requires_grad_() for t in tokens(11, heads=1, e=2)), some(11, 0.8)

    def answered(q, k, v):
        return hyper_attention(q, k, v, seen, block=4, samples=2, min_seq_len=0, causal=causal)[:, :, seen[0]]

    assert torch.autograd.gradcheck(answered, (q, k, v))


def drawn(seed):
    (q, k, v), seen = tokens(300), torch.ones(1, 300, dtype=torch.bool)
    return hyper_attention(q, k, v, seen, block=32, samples=16, min_seq_len=0, seed=seed)


def elsewhere(path):
    """In a process that has drawn other numbers before."""
    torch.manual_seed(123)
    torch.save([drawn(seed) for seed in (0, 1)], path)


def test_a_seed_gives_one_answer_in_every_call_and_process(tmp_path):
    assert Forked(tmp_path / "err", elsewhere, tmp_path / "there.pt").end() == (0, "")
    there, before = torch.load(tmp_path / "there.pt"), torch.random.get_rng_state()
    for seed in (0, 1):
        calls = [drawn(seed) for _ in range(2)]
        assert torch.equal(*calls) and torch.allclose(calls[0], there[seed], atol=1e-12)
    assert not torch.allclose(*there, atol=1e-2) and torch.equal(torch.random.get_rng_state(), before)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is made, as it lies in memory."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [t.untyped_storage().nbytes() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.nbytes = max([self.nbytes, *made])
        return out


def test_work_and_memory_are_linear_in_the_tokens():
    encoder = Hyper(16, 1, spacing=640.0, heads=2, min_seq_len=0, block=32, samples=32).to("meta")
    flops, largest = [], []
    for n in (512, 1024, 2048):
        grid, mask = torch.empty(1, 16, n // 32, 32, device="meta"), torch.ones(1, n // 32, 32, dtype=torch.bool, device="meta")
        with FlopCounterMode(display=False) as work, Largest() as memory, sdpa_kernel(SDPBackend.MATH):
            encoder(grid, mask).sum().backward()
        flops.append(work.get_total_flops())
        largest.append(memory.nbytes)
    pairs = 3 * 4 * 512 * 64 * 16  # forward and twice that backward, of q k^T and its product with v
    assert pairs < flops[0] < 10 * pairs and flops == [flops[0], 2 * flops[0], 4 * flops[0]]
    assert largest == [largest[0], 2 * largest[0], 4 * largest[0]]


def small(**options):
    torch.manual_seed(0)
    values = {"spacing": 640.0, "min_seq_len": 0, "block": 16, "samples": 8, "class_token": True}
    return Hyper(32, 2, **{**values, **options}).eval()


def field(y, x, b=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(b, 32, y, x, generator=generator), torch.rand(b, y, x, generator=generator) < 0.7


def test_up_to_min_seq_len_the_encoder_is_attention():
    torch.manual_seed(0)
    attention, (grid, mask) = Attention(32, 2, spacing=640.0, class_token=True).eval(), field(9, 13)
    near, far = small(min_seq_len=118), small()
    for encoder in (near, far):
        encoder.load_state_dict(attention.state_dict())
    with torch.inference_mode():
        for answer in ("forward", "classify"):
            truth, same, other = (getattr(encoder, answer)(grid, mask) for encoder in (attention, near, far))
            assert torch.allclose(truth, same, atol=1e-5) and not torch.allclose(truth, other, atol=1e-3)


@given(st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None, max_examples=10)
def test_any_grid_is_answered_where_it_is_seen(y, x):
    encoder, (grid, mask) = small(), field(y, x)
    with torch.inference_mode():
        told = encoder(grid, mask)
        other = encoder(torch.where(mask[:, None], grid, 99.0), mask)
        assert told.shape == grid.shape and (told[~mask[:, None].expand(told.shape)] == 0).all()
        assert torch.allclose(told, other, atol=1e-5)
        said = encoder.classify(grid, mask)
        assert torch.allclose(said, encoder.classify(torch.where(mask[:, None], grid, 99.0), mask), atol=1e-5)


def test_an_empty_tile_is_finite_and_0():
    encoder, (grid, mask) = small(), field(6, 7)
    grid.requires_grad_()
    told, said = encoder(grid, torch.zeros_like(mask)), encoder.classify(grid, torch.zeros_like(mask))
    (told.sum() + said.sum()).backward()
    assert (told == 0).all() and said.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in (grid, *encoder.parameters()))


def test_the_class_token_looks_at_every_token():
    encoder, (grid, _) = small(samples=1, block=2), field(5, 6, b=1)
    grid.requires_grad_()
    encoder.blocks = encoder.blocks[-1:]
    encoder.classify(grid, torch.ones(1, 5, 6, dtype=torch.bool)).square().sum().backward()
    assert (grid.grad.abs().sum(1) > 0).all()


def test_blocks_draw_differently():
    seeds = [block.attend.keywords["seed"] for block in small(seed=5).blocks]
    assert seeds == [5, 6]


def test_it_runs_in_bf16_and_without_content():
    encoder, (grid, mask) = small(), field(9, 13)
    with torch.inference_mode():
        full, half = encoder(grid, mask), encoder.bfloat16()(grid.bfloat16(), mask)
        assert half.dtype == torch.bfloat16 and F.mse_loss(half.float(), full) < 0.05 * full.square().mean()
        assert encoder.to("meta")(grid.bfloat16().to("meta"), mask.to("meta")).shape == grid.shape


def test_nonsense_is_refused():
    with pytest.raises(ModelError, match="at least 1"):
        small(samples=0)
    with pytest.raises(ValueError, match="at least 1"):
        hyper_attention(*tokens(5), some(5), block=0)
