import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from xtgeo.errors import ModelError
from xtgeo.model.context import mamba
from xtgeo.model.context.mamba import Mamba, Mamba1, Mamba2, segment_sums, selective_scan, ssd

FORMS = ("ssd", "s6")


def recurrence(x, dt, A, B, C, state):
    """The paper's two lines, token by token: x, dt (b, n, c), A (c, s), B, C (b, n, s), state (b, s, c)."""
    told = []
    for t in range(x.shape[1]):
        state = (dt[:, t, None] * A.T).exp() * state + (dt[:, t] * x[:, t])[:, None] * B[:, t, :, None]
        told.append((C[:, t, :, None] * state).sum(1))
    return torch.stack(told, 1), state


def by_recurrence(form, x, dt, A, B, C, state):
    """The same for both forms, in the shapes of each."""
    if form == "s6":
        return recurrence(x, dt, A, B, C, state)
    p = x.shape[-1]
    wide = dt.repeat_interleave(p, -1), A.repeat_interleave(p)[:, None].expand(-1, B.shape[-1])
    y, after = recurrence(x.flatten(-2), *wide, B, C, state.flatten(-2))
    return y.view(x.shape), after.view(state.shape)


def scan(form, *inputs, **options):
    return (selective_scan if form == "s6" else ssd)(*inputs, **options)


def inputs_of(form, n, *, b=2, s=3, steps=(1e-3, 1.0), seed=0, dtype=torch.float64):
    """x, dt, A, B, C and a state to begin with; dt spread evenly in its logarithm between `steps`."""
    g = torch.Generator().manual_seed(seed)
    c, h, p = 4, 2, 2
    first, last = (torch.tensor(v, dtype=torch.float64).log() for v in steps)
    wide = (b, n, c) if form == "s6" else (b, n, h, p)
    x, B, C = (torch.randn(*size, generator=g, dtype=torch.float64) for size in (wide, (b, n, s), (b, n, s)))
    dt = (first + (last - first) * torch.rand(wide[:3], generator=g, dtype=torch.float64)).exp()
    A = -0.1 - torch.rand((c, s) if form == "s6" else (h,), generator=g, dtype=torch.float64) * 4
    state = torch.randn((b, s, *wide[2:]), generator=g, dtype=torch.float64)
    return [t.to(dtype) for t in (x, dt, A, B, C, state)]


def grid(y, x, *, b=2, dim=32, holes=0.3, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, dim, y, x, generator=g, dtype=dtype), torch.rand(b, y, x, generator=g) >= holes


def encoder(form, depth=2, dim=32, **options):
    """An encoder whose biases are not those of birth: at zero they hide what masked tokens say."""
    torch.manual_seed(3)
    ours = Mamba(dim, depth, spacing=640.0, form=form, **options)
    for p in ours.parameters():
        if p.ndim == 1:
            p.data += 0.3 * torch.randn(p.shape)
    return ours


def near(a, b, relative):
    return float((a - b).detach().abs().max()) <= relative * float(b.detach().abs().max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 3, 7, 32, 64])
@pytest.mark.parametrize("n", [1, 31, 65])
def test_a_scan_in_chunks_is_the_recurrence(form, chunk, n):
    inputs = inputs_of(form, n)
    for ours, theirs in zip(scan(form, *inputs, chunk=chunk), by_recurrence(form, *inputs), strict=True):
        assert ours.shape == theirs.shape and near(ours, theirs, 1e-12)
    zero = [*inputs[:5], torch.zeros_like(inputs[5])]
    assert torch.equal(scan(form, *inputs[:5], chunk=chunk)[0], scan(form, *zero, chunk=chunk)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_step_is_too_long_or_too_short(form, dtype):
    """Decays from exp(-1e6) to 1 - 1e-9 beside each other: products of them underflow, quotients overflow."""
    inputs = inputs_of(form, 200, steps=(1e-9, 1e6), dtype=dtype)
    y, after = scan(form, *inputs)
    told, final = by_recurrence(form, *(t.double() for t in inputs))
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    assert y.isfinite().all() and near(y, told, exact) and near(after, final, exact)


def test_small_steps_behind_a_large_one_do_not_drown():
    a = torch.full((32,), -1e-3)
    a[3] = -1e6
    assert near(segment_sums(a)[20, 4:21], -1e-3 * torch.arange(16, -1, -1), 1e-6)
    assert (segment_sums(a)[20, :3] <= -1e6).all() and (segment_sums(a)[3, 4:] == -torch.inf).all()


@pytest.mark.parametrize("form", FORMS)
def test_two_scans_that_hand_the_state_on_are_one(form):
    x, dt, A, B, C, state = inputs_of(form, 50)
    first, second = ([t[:, part] for t in (x, dt, B, C)] for part in (slice(0, 17), slice(17, None)))
    whole, after = scan(form, x, dt, A, B, C, state, chunk=8)
    one, between = scan(form, *first[:2], A, *first[2:], state, chunk=8)
    two, end = scan(form, *second[:2], A, *second[2:], between, chunk=8)
    assert near(torch.cat([one, two], 1), whole, 1e-13) and near(end, after, 1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_the_state_passes_over_tokens_without_a_step(form):
    x, dt, A, B, C, state = inputs_of(form, 40)
    seen = torch.rand(40, generator=torch.Generator().manual_seed(5)) < 0.6
    dt[:, ~seen] = 0
    whole, after = scan(form, x, dt, A, B, C, state, chunk=8)
    rest, same = scan(form, *(t[:, seen] for t in (x, dt)), A, *(t[:, seen] for t in (B, C)), state, chunk=8)
    assert near(whole[:, seen], rest, 1e-13) and near(after, same, 1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [5, 64])
def test_gradients_are_those_of_the_recurrence(form, chunk):
    inputs = [t.requires_grad_() for t in inputs_of(form, 43)]
    g = torch.Generator().manual_seed(1)
    wanted = [torch.randn(t.shape, generator=g, dtype=torch.float64) for t in (inputs[0], inputs[5])]
    ours = torch.autograd.grad(scan(form, *inputs, chunk=chunk), inputs, wanted)
    theirs = torch.autograd.grad(by_recurrence(form, *inputs), inputs, wanted)
    assert all(near(a, b, 1e-9) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form):
    inputs = [t.requires_grad_() for t in inputs_of(form, 5, b=1, s=2)]
    assert torch.autograd.gradcheck(lambda *t: scan(form, *t, chunk=2), inputs)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_stay_finite_with_steps_of_any_length(form):
    inputs = [t.requires_grad_() for t in inputs_of(form, 100, steps=(1e-9, 1e6), dtype=torch.float32)]
    assert all(t.isfinite().all() for t in torch.autograd.grad(scan(form, *inputs)[0].sum(), inputs[:5]))


def test_kernels_are_called_as_mamba_ssm_documents_them(monkeypatch):
    """Fakes of its two functions that check the shapes and compute the recurrence."""

    def selective_scan_fn(u, delta, A, B, C, *, return_last_state):
        b, c, n = u.shape
        assert delta.shape == u.shape and A.shape[0] == c and B.shape == C.shape == (b, A.shape[1], n)
        assert u.dtype == delta.dtype == A.dtype == B.dtype == torch.float32 and return_last_state
        y, state = recurrence(u.mT, delta.mT, A, B.mT, C.mT, u.new_zeros(b, A.shape[1], c))
        return y.mT, state.mT

    def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, *, return_final_states):
        b, n, h, p = x.shape
        assert dt.shape == (b, n, h) and A.shape == (h,) and B.shape == C.shape == (b, n, 1, B.shape[-1])
        assert chunk_size & (chunk_size - 1) == 0 and return_final_states
        y, state = by_recurrence("ssd", x, dt, A, B[:, :, 0], C[:, :, 0], x.new_zeros(b, B.shape[-1], h, p))
        return y, state.permute(0, 2, 3, 1)

    tokens, mask = grid(5, 9)
    for form in FORMS:
        ours, inputs = encoder(form), inputs_of(form, 40, dtype=torch.float32)[:5]
        plain, told = scan(form, *inputs), ours(tokens, mask)
        with monkeypatch.context() as patch:
            patch.setattr(mamba, "_kernels", lambda x: (selective_scan_fn, mamba_chunk_scan_combined))
            patch.setattr(mamba, "SPAN", 8)
            assert all(near(a, b, 1e-5) for a, b in zip(scan(form, *inputs), plain, strict=True))
            assert near(ours(tokens, mask), told, 1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS)
def test_kernels_of_mamba_ssm_agree_with_ours(form, monkeypatch):
    pytest.importorskip("mamba_ssm", reason="mamba_ssm is not installed: its kernels cannot be compared")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: mamba_ssm's kernels cannot run")
    inputs = [t.cuda().requires_grad_() for t in inputs_of(form, 700, s=16, dtype=torch.float32)[:5]]
    assert mamba._kernels(inputs[0]) is not None
    theirs = scan(form, *inputs)
    their_gradients = torch.autograd.grad(theirs[0].sin().sum(), inputs)
    monkeypatch.setattr(mamba, "_kernels", lambda x: None)
    ours = scan(form, *inputs)
    our_gradients = torch.autograd.grad(ours[0].sin().sum(), inputs)
    loose = 1e-4 if form == "s6" else 1e-2  # the SSD kernel multiplies in TF32
    assert all(near(a, b, loose) for a, b in zip([*theirs, *their_gradients], [*ours, *our_gradients], strict=True))


def test_mamba1_has_the_official_parameters():
    with torch.device("meta"):
        names = {name: tuple(p.shape) for name, p in Mamba1(768).state_dict().items()}
    assert names == {
        "A_log": (1536, 16),
        "D": (1536,),
        "in_proj.weight": (3072, 768),
        "conv1d.weight": (1536, 1, 4),
        "conv1d.bias": (1536,),
        "x_proj.weight": (80, 1536),
        "dt_proj.weight": (1536, 48),
        "dt_proj.bias": (1536,),
        "out_proj.weight": (768, 1536),
    }


def test_mamba2_has_the_official_parameters():
    with torch.device("meta"):
        names = {name: tuple(p.shape) for name, p in Mamba2(768, state=128, head=64).state_dict().items()}
    assert names == {
        "dt_bias": (24,),
        "A_log": (24,),
        "D": (24,),
        "in_proj.weight": (3352, 768),
        "conv1d.weight": (1792, 1, 4),
        "conv1d.bias": (1792,),
        "norm.weight": (1536,),
        "out_proj.weight": (768, 1536),
    }


def test_mixers_are_born_with_the_papers_decays():
    one, two = Mamba1(64, state=5), Mamba2(512)
    assert torch.allclose(one.A_log.exp(), torch.arange(1.0, 6).expand(128, 5)) and (one.D == 1).all()
    assert (one.dt_proj.weight.abs() <= 0.5).all()
    for bias in (one.dt_proj.bias, two.dt_bias):
        dt = F.softplus(bias)
        assert (dt > 0.999e-3).all() and (dt < 0.1001).all() and dt.max() > 10 * dt.min()
    assert (two.A_log.exp() >= 1).all() and (two.A_log.exp() <= 16).all() and (two.D == 1).all()


def causal(x, conv):
    return F.silu(F.conv1d(F.pad(x.mT, (3, 0)), conv.weight, conv.bias, groups=x.shape[-1])).mT


@torch.no_grad()
def test_mamba1_is_the_papers_mixer():
    torch.manual_seed(0)
    mixer, t = Mamba1(16, state=5, dt_rank=3).double(), torch.randn(2, 19, 16, dtype=torch.float64)
    x, z = mixer.in_proj(t).split([32, 32], -1)
    x = causal(x, mixer.conv1d)
    dt, B, C = mixer.x_proj(x).split([3, 5, 5], -1)
    y, _ = recurrence(x, F.softplus(mixer.dt_proj(dt)), -mixer.A_log.exp(), B, C, torch.zeros(2, 5, 32))
    assert near(mixer(t), mixer.out_proj((y + mixer.D * x) * F.silu(z)), 1e-12)


@torch.no_grad()
def test_mamba2_is_the_papers_mixer():
    torch.manual_seed(0)
    mixer, t = Mamba2(16, state=5, head=8).double(), torch.randn(2, 19, 16, dtype=torch.float64)
    mixer.norm.weight.uniform_(0.5, 2)
    z, x, dt = mixer.in_proj(t).split([32, 42, 4], -1)
    x, B, C = causal(x, mixer.conv1d).split([32, 5, 5], -1)
    x, dt = x.unflatten(-1, (4, 8)), F.softplus(dt + mixer.dt_bias)
    y, _ = by_recurrence("ssd", x, dt, -mixer.A_log.exp(), B, C, torch.zeros(2, 5, 4, 8))
    y = (y + mixer.D[:, None] * x).flatten(-2) * F.silu(z)
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mixer.norm.weight
    assert near(mixer(t), mixer.out_proj(y), 1e-12)


@pytest.mark.parametrize("mixer", [Mamba1, Mamba2])
def test_spans_do_not_show(mixer, monkeypatch):
    torch.manual_seed(0)
    mixer, t = mixer(16).double(), torch.randn(2, 45, 16, dtype=torch.float64)
    mask = torch.rand(2, 45) < 0.7
    whole = mixer(t, mask)
    for span in (1, 2, 16):  # shorter than the convolution, too
        monkeypatch.setattr(mamba, "SPAN", span)
        assert near(mixer(t, mask), whole, 1e-12)


@pytest.mark.parametrize("mixer", [Mamba1, Mamba2])
def test_a_gap_of_masked_tokens_is_as_good_as_a_wide_one(mixer):
    """Once the convolution sees nothing of the other side."""
    torch.manual_seed(0)
    mixer, told = mixer(16).double(), []
    left, right = torch.randn(1, 9, 16, dtype=torch.float64), torch.randn(1, 9, 16, dtype=torch.float64)
    for gap in (3, 40):
        seen = torch.ones(1, 18 + gap, dtype=torch.bool)
        seen[:, 9 : 9 + gap] = False
        t = torch.cat([left, torch.randn(1, gap, 16, dtype=torch.float64), right], 1)
        told.append(mixer(t, seen)[seen])
    assert near(*told, 1e-12) and not near(told[0][9:], mixer(right)[0], 1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (5, 9)])
def test_masked_tokens_change_nothing_and_are_not_answered(form, shape):
    ours, (tokens, mask) = encoder(form, class_token=True), grid(*shape)
    told = ours(tokens, mask)
    assert told.shape == tokens.shape and told.isfinite().all()
    assert (told.movedim(1, -1)[~mask] == 0).all() and (told.movedim(1, -1)[mask] != 0).any(-1).all()
    for nonsense in (99.0, torch.nan):
        other = torch.where(mask[:, None], tokens, nonsense)
        assert torch.equal(ours(other, mask), told) and torch.equal(ours.classify(other, mask), ours.classify(tokens, mask))


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_grid_is_answered_with_zeros(form):
    ours, (tokens, mask) = encoder(form, class_token=True), grid(4, 5, holes=1.0)
    told, summary = ours(tokens, mask), ours.classify(tokens, mask)
    assert (told == 0).all() and summary.isfinite().all()
    (told.sum() + summary.sum()).backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_after_one_block_every_token_has_heard_of_every_token(form):
    ours, (tokens, mask) = encoder(form, depth=1).double(), grid(4, 5, b=1, dtype=torch.float64)
    tokens.requires_grad_()
    told = ours(tokens, mask)
    for y, x in mask[0].nonzero():
        (heard,) = torch.autograd.grad(told[0, 0, y, x], tokens, retain_graph=True)
        assert torch.equal((heard[0] != 0).any(0), mask[0])


@pytest.mark.parametrize("form", FORMS)
def test_the_class_token_learns_from_all_tokens(form):
    ours, (tokens, mask) = encoder(form, depth=1, class_token=True).double(), grid(5, 7, dtype=torch.float64)
    tokens.requires_grad_()
    summary = ours.classify(tokens, mask)
    assert summary.shape == (2, 32)
    (heard,) = torch.autograd.grad(summary[:, 0].sum(), tokens)
    assert torch.equal((heard != 0).any(1), mask)


@pytest.mark.parametrize("form", FORMS)
def test_grids_of_a_batch_do_not_know_each_other(form):
    ours, (tokens, mask) = encoder(form, class_token=True), grid(5, 7, b=3)
    apart = [ours(tokens[i : i + 1], mask[i : i + 1]) for i in range(3)]
    assert torch.allclose(ours(tokens, mask), torch.cat(apart), atol=1e-5)
    apart = [ours.classify(tokens[i : i + 1], mask[i : i + 1]) for i in range(3)]
    assert torch.allclose(ours.classify(tokens, mask), torch.cat(apart), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_half_a_turn_of_the_grid_swaps_the_two_directions(form):
    """The class token is in the middle: what it learns stays as it is."""
    ours, other, (tokens, mask) = encoder(form, class_token=True), encoder(form, class_token=True), grid(4, 7)
    for block in other.blocks:
        block.ahead, block.back = block.back, block.ahead
    turned = other(tokens.flip(2, 3), mask.flip(1, 2)).flip(2, 3)
    assert torch.allclose(turned, ours(tokens, mask), atol=1e-5)
    summary = other.classify(tokens.flip(2, 3), mask.flip(1, 2))
    assert torch.allclose(summary, ours.classify(tokens, mask), atol=1e-5)
    assert not torch.allclose(other(tokens, mask), ours(tokens, mask), atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_every_second_block_reads_along_the_columns(form):
    two, one, (tokens, mask) = encoder(form), encoder(form, depth=1), grid(5, 7)
    for mixer in (two.blocks[0].ahead, two.blocks[0].back):
        torch.nn.init.zeros_(mixer.out_proj.weight)
    one.blocks[0], one.norm = two.blocks[1], two.norm
    assert torch.allclose(two(tokens, mask).mT, one(tokens.mT, mask.mT), atol=1e-5)
    assert not torch.allclose(two(tokens, mask), one(tokens, mask), atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_the_work_is_linear_in_the_tokens(form):
    ours, work = encoder(form), []
    for side in (24, 48):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            ours(*grid(side, side, b=1))
        work.append(counter.get_total_flops())
    assert 3.9 * work[0] < work[1] < 4.2 * work[0]


class Largest(TorchDispatchMode):
    """Counts the numbers of the largest tensor made, and of all of them."""

    most = total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(made) if isinstance(t, torch.Tensor)]
        self.most, self.total = max(self.most, *sizes, 0), self.total + sum(sizes)
        return made


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_larger_than_the_tokens_and_all_of_it_is_linear(form, monkeypatch):
    monkeypatch.setattr(mamba, "SPAN", 64)
    ours, made = encoder(form), []
    for side in (32, 64):
        tokens, mask = grid(side, side, b=1)
        with torch.inference_mode(), Largest() as counter:
            ours(tokens, mask)
        assert counter.most <= tokens.numel()
        made.append(counter.total)
    assert 3.9 * made[0] < made[1] < 4.2 * made[0]


def test_training_keeps_the_inputs_of_s6_and_one_state_a_chunk():
    inputs, kept = [t.requires_grad_() for t in inputs_of("s6", 100)], []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        selective_scan(*inputs, chunk=25)
    assert sum(kept) == sum(t.numel() for t in inputs[:5]) + 4 * inputs[5].numel()


@pytest.mark.parametrize("form", FORMS)
def test_sixteen_bits_are_close_to_thirty_two(form):
    ours, (tokens, mask) = encoder(form), grid(9, 11)
    told = ours(tokens, mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ours(tokens, mask)
    mixed.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters())
    half = ours.bfloat16()(tokens.bfloat16(), mask)
    assert half.dtype == torch.bfloat16
    for other in (mixed, half):
        assert (other - told).square().mean() < 1e-4 * told.square().mean()


@pytest.mark.parametrize("form", FORMS)
def test_memory_can_be_planned_on_the_meta_device(form):
    ours, (tokens, mask) = encoder(form, class_token=True).to("meta"), grid(40, 50)
    assert ours(tokens.to("meta"), mask.to("meta")).shape == tokens.shape
    assert ours.classify(tokens.to("meta"), mask.to("meta")).shape == (2, 32)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ModelError, match="ssd, s6"):
        Mamba(32, 1, spacing=640.0, form="s4")
    with pytest.raises(ModelError, match="multiple of 16"):
        Mamba(24, 1, spacing=640.0)
