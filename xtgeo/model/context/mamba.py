"""Mamba: state spaces read the raster both ways, in time and memory that grow with the number of tokens.

S6 is Mamba-1 (Gu & Dao 2023, arXiv 2312.00752), SSD is Mamba-2 (Dao & Gu 2024, arXiv 2405.21060). Both are the recurrence

    h[t] = exp(dt[t] A) h[t - 1] + dt[t] x[t] B[t]        y[t] = C[t] h[t]        A < 0 < dt

S6 has an A for every channel and state; SSD one for each head, which turns all but the carry between chunks into products
of matrices: on a CPU half of the time of S6, in training a third.

b: batch   n: tokens   d: channels of a token   c: channels inside a mixer   s: states   h: heads   p = c / h
k: chunks   q: tokens of a chunk
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xtgeo.errors import ModelError

SPAN = 1024
"""Tokens that go through a mixer at once: what a mixer makes of them stays in a processor's cache."""
KERNEL_CHUNK = 256
"""Chunk of mamba_ssm's SSD kernel: its own default."""


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None, *, chunk: int = 32
) -> tuple[Tensor, Tensor]:
    """S6: x, dt (b, n, c), A (c, s), B, C (b, n, s), state before (b, s, c) or zero -> y (b, n, c), state after.

    At least float32. One small operation a token, the rest in chunks: (b, q, s, c) exists for one chunk at a time. Training
    keeps the inputs and the state before each chunk, c s / q numbers a token, and computes the rest again. From a state of
    zero on a GPU mamba_ssm's kernel answers if it is there (without gradients of the state after); if not, `ssd` suits a
    GPU better. Second derivatives are refused.
    """
    x, dt, A, B, C = (_wide(t) for t in (x, dt, A, B, C))
    if state is None and (kernels := _kernels(x)):
        x, dt, B, C = (t.mT.contiguous() for t in (x, dt, B, C))
        y, state = kernels[0](x, dt, A, B, C, return_last_state=True)
        return y.mT, state.mT
    if state is None:
        state = x.new_zeros(len(x), *A.mT.shape)
    return _SelectiveScan.apply(x, dt, A.mT.contiguous(), B, C, state, chunk)


class _SelectiveScan(torch.autograd.Function):
    """The S6 recurrence with a gradient of its own; A comes as (s, c), so that channels lie side by side."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, state, chunk):
        entering, y = [], torch.empty_like(x)
        for xs, dts, Bs, Cs, ys in zip(*(t.split(chunk, 1) for t in (x, dt, B, C, y)), strict=True):
            entering.append(state)
            _, states = _states(xs, dts, A, Bs, state)
            ys.copy_((Cs[:, :, None] @ states)[:, :, 0])
            state = states[:, -1].clone()  # a view would keep the whole chunk
        ctx.save_for_backward(x, dt, A, B, C, torch.stack(entering, 1))
        ctx.chunk = chunk
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, later):
        x, dt, A, B, C, entering = ctx.saved_tensors
        dx, ddt, dA, dB, dC = (torch.zeros_like(t) for t in (x, dt, A, B, C))
        for i in reversed(range(entering.shape[1])):
            part = slice(i * ctx.chunk, (i + 1) * ctx.chunk)
            xs, dts, Bs, Cs, dys = (t[:, part] for t in (x, dt, B, C, dy))
            decay, states = _states(xs, dts, A, Bs, entering[:, i])
            g = Cs[..., None] * dys[:, :, None]  # (b, q, s, c): gradient of the states
            g[:, -1] += later
            for t in reversed(range(g.shape[1] - 1)):
                torch.addcmul(g[:, t], decay[:, t + 1], g[:, t + 1], out=g[:, t])
            later = decay[:, 0] * g[:, 0]
            dC[:, part] = (states @ dys[..., None])[..., 0]
            dB[:, part] = (g @ (dts * xs)[..., None])[..., 0]
            fed = (Bs[:, :, None] @ g)[:, :, 0]  # (b, q, c)
            decayed = g.mul_(decay).mul_(torch.cat([entering[:, i, None], states[:, :-1]], 1))
            dx[:, part] = dts * fed
            ddt[:, part] = xs * fed + (decayed * A).sum(-2)
            dA += torch.einsum("bqsc,bqc->sc", decayed, dts)
        return dx, ddt, dA, dB, dC, later, None


def _states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """What each token of a chunk leaves of the state before it, and the states: (b, q, s, c) both."""
    decay = (dt[:, :, None] * A).exp_()
    states = (dt * x)[:, :, None] * B[..., None]
    if states.is_meta:  # plans ask for sizes only, and a step takes a third of a millisecond there
        return decay, states
    for left, new in zip(decay.unbind(1), states.unbind(1), strict=True):
        state = torch.addcmul(new, left, state, out=new)
    return decay, states


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None, *, chunk: int = 32
) -> tuple[Tensor, Tensor]:
    """SSD: x (b, n, h, p), dt (b, n, h), A (h,), B, C (b, n, s), state before (b, s, h, p) or zero -> y as x, state after.

    At least float32. 2 c (q + 2 s) + 2 q s operations a token; in memory h q numbers a token, and the state before each
    chunk, c s / q a token. From a state of zero on a GPU mamba_ssm's kernel answers if it is there.
    """
    x, dt, A, B, C = (_wide(t) for t in (x, dt, A, B, C))
    if state is None and (kernels := _kernels(x)):
        y, state = kernels[1](x, dt, A, B[:, :, None], C[:, :, None], KERNEL_CHUNK, return_final_states=True)
        return y, state.permute(0, 3, 1, 2)
    n, (h, p), chunk = x.shape[1], x.shape[2:], min(chunk, x.shape[1])
    if state is None:
        state = x.new_zeros(len(x), B.shape[-1], h, p)
    # Tokens with dt = 0 fill the last chunk: the state passes over them.
    x, dt, B, C = (F.pad(t, (0, 0) * (t.ndim - 2) + (0, -n % chunk)).unflatten(1, (-1, chunk)) for t in (x, dt, B, C))
    x, a = x * dt[..., None], (dt * A).mT  # (b, k, q, h, p), (b, k, h, q)
    decay = segment_sums(a).exp()  # (b, k, h, q, q)
    within = ((C @ B.mT)[:, :, None] * decay) @ x.transpose(2, 3)  # (b, k, h, q, p)
    kept = decay[..., -1, :].mT[..., None]  # (b, k, q, h, 1): of each token at its chunk's end
    news = B.mT @ (x * kept).flatten(-2)  # (b, k, s, c)
    since = a.cumsum(-1).exp()  # (b, k, h, q): what each token sees of the state before its chunk
    entering = []
    for left, new in zip(since[..., -1].unbind(1), news.unflatten(-1, (h, p)).unbind(1), strict=True):
        entering.append(state)
        state = left[:, None, :, None] * state + new
    carried = (C @ torch.stack(entering, 1).flatten(-2)).unflatten(-1, (h, p))  # (b, k, q, h, p)
    y = torch.addcmul(within.transpose(2, 3), carried, since.mT[..., None])
    return y.flatten(1, 2)[:, :n], state


def segment_sums(a: Tensor) -> Tensor:
    """a (..., q) -> (..., q, q): a[j + 1] + ... + a[i] for i >= j, else -inf.

    Summed, not the difference of two running sums: after one large a the small ones behind it would drown in rounding.
    """
    square = torch.ones(a.shape[-1], a.shape[-1], dtype=torch.bool, device=a.device)
    sums = (a[..., None] * square.tril(-1)).cumsum(-2)
    return sums.masked_fill(~square.tril(), -math.inf)


def _wide(t: Tensor) -> Tensor:
    # A state sums up thousands of tokens: eight bits of bf16 are too few.
    return t.to(torch.promote_types(t.dtype, torch.float32))


def _kernels(x: Tensor) -> tuple[Callable, Callable] | None:
    """mamba_ssm's S6 and SSD if it is there and x is on a GPU."""
    return _mamba_ssm() if x.is_cuda and x.dtype != torch.float64 else None


@functools.cache
def _mamba_ssm() -> tuple[Callable, Callable] | None:
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError:
        return None
    return selective_scan_fn, mamba_chunk_scan_combined


class Mamba1(nn.Module):
    """The mixer of Mamba-1: t (b, n, d), mask (b, n) -> (b, n, d), each token from itself and those before it.

    Masked tokens are passed over. Names and shapes of its parameters are those of mamba_ssm's `Mamba`.
    """

    def __init__(self, dim: int, *, state: int = 16, conv: int = 4, expand: int = 2, dt_rank: int | None = None):
        """state: states per channel; conv: tokens that the convolution sees; dt_rank: dim / 16 unless given."""
        super().__init__()
        inner, rank = expand * dim, dt_rank or math.ceil(dim / 16)
        self.sizes = [rank, state, state]
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv, groups=inner)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(_first_steps(inner))

    def forward(self, t: Tensor, mask: Tensor | None = None) -> Tensor:
        return _in_spans(self._span, t, mask)

    def _span(self, t: Tensor, mask: Tensor, tail: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        x, z = self.in_proj(t).chunk(2, -1)
        x, tail = _convolve(_hide(x, mask), tail, self.conv1d)
        dt, B, C = self.x_proj(x).split(self.sizes, -1)
        dt = _hide(F.softplus(_wide(self.dt_proj(dt))), mask)
        y, state = selective_scan(x, dt, -_wide(self.A_log).exp(), B, C, state)
        return self.out_proj((y + x * self.D).to(z.dtype) * F.silu(z)), tail, state


class Mamba2(nn.Module):
    """The mixer of Mamba-2: t (b, n, d), mask (b, n) -> (b, n, d), each token from itself and those before it.

    Masked tokens are passed over. Names and shapes of its parameters are those of mamba_ssm's `Mamba2` with one group.
    """

    def __init__(self, dim: int, *, state: int = 64, conv: int = 4, expand: int = 2, head: int = 32):
        """head: channels of a head, which share A and dt; the paper's 64 leaves narrow tokens too few rates of decay."""
        super().__init__()
        inner = expand * dim
        if inner % head:
            step = head // math.gcd(head, expand)
            raise ModelError(f"mamba cuts {expand} x its width into heads of {head}; {dim} is no multiple of {step}, take one")
        self.sizes, self.parts, self.head = [inner, inner + 2 * state, inner // head], [inner, state, state], head
        self.in_proj = nn.Linear(dim, sum(self.sizes), bias=False)
        self.conv1d = nn.Conv1d(sum(self.parts), sum(self.parts), conv, groups=sum(self.parts))
        self.A_log = nn.Parameter(torch.empty(inner // head).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(inner // head))
        self.dt_bias = nn.Parameter(_first_steps(inner // head))
        self.norm = nn.RMSNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, t: Tensor, mask: Tensor | None = None) -> Tensor:
        return _in_spans(self._span, t, mask)

    def _span(self, t: Tensor, mask: Tensor, tail: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        z, x, dt = self.in_proj(t).split(self.sizes, -1)
        x, tail = _convolve(_hide(x, mask), tail, self.conv1d)
        x, B, C = x.split(self.parts, -1)
        x = x.unflatten(-1, (-1, self.head))  # (b, n, h, p)
        dt = _hide(F.softplus(_wide(dt) + self.dt_bias), mask)
        y, state = ssd(x, dt, -_wide(self.A_log).exp(), B, C, state)
        y = (y + x * self.D[:, None]).flatten(-2).to(self.norm.weight.dtype)
        return self.out_proj(self.norm(y * F.silu(z))), tail, state


def _in_spans(span: Callable, t: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens t (b, n, d) through a mixer's span(t, mask, tail, state) -> y, tail, state, `SPAN` at a time.

    Between spans go the tail of the convolution's input and the state; mamba_ssm's kernels take no state and have no need.
    """
    mask = torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) if mask is None else mask
    told, tail, state, size = [], None, None, t.shape[1] if _kernels(t) else SPAN
    for some, seen in zip(t.split(size, 1), mask.split(size, 1), strict=True):
        y, tail, state = span(some, seen, tail, state)
        told.append(y)
    return torch.cat(told, 1)


def _convolve(x: Tensor, tail: Tensor | None, conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """silu(conv(x)) along the tokens of x (b, n, c), each from itself and those before it, and the tail for those to come.

    A shifted sum for each tap: twice as fast as turning (n, c) to (c, n) for a depthwise convolution and back.
    """
    (taps,), n = conv.kernel_size, x.shape[1]
    x = F.pad(x, (0, 0, taps - 1, 0)) if tail is None else torch.cat([tail, x], 1)
    y = conv.bias
    for i in range(taps):
        y = torch.addcmul(y, x[:, i : i + n], conv.weight[:, 0, i])
    return F.silu(y), x[:, n:]


def _hide(x: Tensor, mask: Tensor) -> Tensor:
    """x (b, n, c) with 0 where mask (b, n) is False."""
    return x.masked_fill(~mask[..., None], 0)


def _first_steps(n: int) -> Tensor:
    """Biases (n,) whose softplus, dt at the start, lies between 0.001 and 0.1, evenly in its logarithm."""
    dt = torch.empty(n).uniform_(math.log(1e-3), math.log(0.1)).exp()
    return dt + torch.log(-torch.expm1(-dt))


MIXERS = {"ssd": Mamba2, "s6": Mamba1}
"""By the names of their scans."""


class Block(nn.Module):
    """Pre-norm; one mixer reads the tokens in order, one against it."""

    def __init__(self, dim: int, mixer: Callable[[int], nn.Module]):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.ahead, self.back = mixer(dim), mixer(dim)

    def forward(self, t: Tensor, seen: Tensor) -> Tensor:
        """t (b, n, d), seen (b, n)."""
        u = self.norm(t)
        return t + self.ahead(u, seen) + self.back(u.flip(1), seen.flip(1)).flip(1)


class Mamba(nn.Module):
    """Linear in the number of tokens: (b, d, y, x), mask (b, y, x) -> (b, d, y, x). Masked tokens change nothing.

    Every block reads in both directions, so that after one block every token has heard of all; the xT authors' blocks
    alternate, and a token hears of all only after two. Blocks read along rows and along columns in turn: along rows alone,
    the neighbour below would be a whole row away.

    A scan knows order, not metres: dt is not scaled by the spacing, which is one and the same for all that weights see
    (`Spec` fixes it), while the next token of a raster may lie at the other end of the area.

    Inference holds about 8 d numbers a token, and one span of a mixer; training keeps 100 d (ssd) or 48 d (s6) a block.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        spacing: float,
        form: str = "ssd",
        state: int | None = None,
        expand: int = 2,
        class_token: bool = False,
    ):
        """spacing: metres between tokens, not used; form: "ssd" or "s6"; state: per channel, the form's own (64, 16) if None."""
        super().__init__()
        if form not in MIXERS:
            raise ModelError(f"unknown form {form!r} of mamba; choose one of {', '.join(MIXERS)}")
        mixer = functools.partial(MIXERS[form], expand=expand)
        if state is not None:
            mixer = functools.partial(mixer, state=state)
        self.blocks = nn.ModuleList(Block(dim, mixer) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.token = nn.Parameter(torch.randn(dim) * 0.02) if class_token else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        t, seen = tokens.flatten(2).mT, mask.flatten(1)
        t = self.norm(self._read(t, seen, _orders(*mask.shape[1:], mask.device))) * seen[..., None]
        return t.mT.unflatten(-1, mask.shape[1:])

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What a class token has learnt from all tokens: (b, d).

        It stands in the middle of every order and hears of either half from one direction, which suits a memory that fades
        better than the end where the xT authors put it (Zhu et al. 2024, arXiv 2401.09417, table 5).
        """
        t = torch.cat([tokens.flatten(2).mT, self.token.to(tokens.dtype).expand(len(tokens), 1, -1)], 1)
        n = t.shape[1] - 1
        last = torch.tensor([n], device=mask.device)
        orders = [torch.cat([o[: n // 2], last, o[n // 2 :]]) for o in _orders(*mask.shape[1:], mask.device)]
        return self.norm(self._read(t, F.pad(mask.flatten(1), (0, 1), value=True), orders)[:, -1])

    def _read(self, t: Tensor, seen: Tensor, orders: list[Tensor]) -> Tensor:
        t = _hide(t, seen)
        for block, order in zip(self.blocks, itertools.cycle(orders), strict=False):
            t = block(t[:, order], seen[:, order])[:, order.argsort()]
        return t


def _orders(y: int, x: int, device: torch.device) -> list[Tensor]:
    """Tokens of the raster (n,) along its rows and along its columns."""
    raster = torch.arange(y * x, device=device).view(y, x)
    return [raster.flatten(), raster.mT.flatten()]
