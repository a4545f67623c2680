"""torch's own operators, and the chunked form of decayed linear attention that people write in it."""
import torch
import torch.nn.functional as F

from problem import WINDOW
from rival import rival

VERSION = f"torch {torch.__version__}"
torch.set_grad_enabled(False)


def threads(p):
    torch.set_num_threads(p.threads)


def tokens(a):
    """[T, H, d] -> [1, H, T, d], contiguous."""
    return torch.from_numpy(a).transpose(0, 1)[None].contiguous()


def back(o):
    return o[0].transpose(0, 1).numpy()


@rival("torch SDPA", "scan/softmax_attention", "step/softmax_attention")
def attention(p, x):
    threads(p)
    q, k, v = (tokens(x[n]) for n in "qkv")
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=not p.is_step), back


@rival("torch SDPA and its backward", "vjp/softmax_attention")
def attention_gradients(p, x):
    threads(p)
    q, k, v = (tokens(x[n]).requires_grad_() for n in "qkv")
    d_o = tokens(x["d_o"])

    @torch.enable_grad()
    def call():
        return torch.autograd.grad(F.scaled_dot_product_attention(q, k, v, is_causal=True), (q, k, v), d_o)

    return call, lambda gradients: back(torch.cat(gradients, -1))


@rival("torch SDPA with a mask", "scan/sliding_window_attention")
def masked_attention(p, x):
    threads(p)
    q, k, v = (tokens(x[n]) for n in "qkv")
    at = torch.arange(p.time)
    hidden = (at[:, None] < at) | (at[:, None] - at >= WINDOW)
    mask = torch.zeros(p.time, p.time).masked_fill(hidden, float("-inf"))
    return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), back


@rival("torch SDPA of the window", "step/sliding_window_attention")
def windowed_decode(p, x):
    threads(p)
    q, k, v = (tokens(x[n][-WINDOW:]) for n in "qkv")
    return lambda: F.scaled_dot_product_attention(q, k, v), back


@rival("torch flex_attention, compiled", "scan/sliding_window_attention")
def flex(p, x):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    threads(p)
    q, k, v = (tokens(x[n]) for n in "qkv")
    mask = create_block_mask(lambda b, h, i, j: (i >= j) & (i - j < WINDOW), None, None, p.time, p.time, device="cpu")
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(q, k, v, block_mask=mask), back


@rival("torch conv1d", "scan/short_conv", "step/short_conv")
def conv(p, x):
    threads(p)
    padded = torch.cat([torch.from_numpy(x["past"]), torch.from_numpy(x["x"])]).T[None].contiguous()
    weight = torch.from_numpy(x["weight"])[:, None].contiguous()
    return lambda: F.conv1d(padded, weight, groups=weight.shape[0]), lambda o: o[0].T.numpy()


def chunked(q, k, v, h0, prefix, chunk=64):
    """o_t = q_t S_t, S_t = exp(g_t) S_{t-1} + k_t v_t^T; prefix(i) sums g inside chunk i, [1, H, chunk]."""
    state, out = h0, []
    for i, (qi, ki, vi) in enumerate(zip(*(a.split(chunk, 2) for a in (q, k, v)))):
        inside, head, tail, whole = prefix(i)
        out.append(((qi @ ki.mT) * inside) @ vi + (qi * head) @ state)
        state = state * whole + (ki * tail).mT @ vi
    return torch.cat(out, 2)


def factors(total):
    """What chunk products are multiplied with, from the running sums of log-decays [1, H, chunk]."""
    last = total[..., -1:]
    inside = torch.exp(total[..., :, None] - total[..., None, :]).tril()
    return inside, torch.exp(total)[..., None], torch.exp(last - total)[..., None], torch.exp(last)[..., None]


@rival("torch, chunks of 64", "scan/simple_gla", "scan/lightning")
def chunks(p, x):
    threads(p)
    q, k, v = (tokens(x[n]) for n in "qkv")
    h0, g = torch.from_numpy(x["h0"])[None], torch.from_numpy(x["g"])
    if p.op == "lightning":  # constant: computed once, outside the call
        fixed = factors(g[None, :, None] * torch.arange(1, 65))
        return lambda: chunked(q, k, v, h0, lambda i: fixed), back
    parts = g.T[None].contiguous().split(64, 2)
    return lambda: chunked(q * p.scale, k, v, h0, lambda i: factors(parts[i].cumsum(-1))), back
