"""What is compared: operators, shapes, inputs, and what they must give by a plain loop in float64."""
import dataclasses

import numpy as np

HEADS = 8
WINDOW = 512
TAPS = 4
DELTA = ("delta_rule", "gated_delta_rule", "kda", "gdn2")
RECURRENCES = (*DELTA, "simple_gla", "gla", "rwkv7", "mamba2", "lightning")
ATTENTION = ("softmax_attention", "sliding_window_attention")
OPERATORS = (*RECURRENCES, *ATTENTION, "short_conv")


@dataclasses.dataclass(frozen=True)
class Problem:
    verb: str  # scan, step, or vjp: forward and backward
    op: str
    time: int  # tokens of a scan; of a step: 1, or the length of the cache
    dim: int
    threads: int

    @property
    def name(self):
        return f"{self.verb}/{self.op}"

    @property
    def cfg(self):
        return f"T={self.time} d={self.dim} H={HEADS} threads={self.threads}"

    @property
    def benchmark(self):
        return f"{self.verb}/{self.op}/float/T:{self.time}/d:{self.dim}/H:{HEADS}/threads:{self.threads}"

    @property
    def is_step(self):
        return self.verb == "step"

    @property
    def scale(self):
        return 1.0 if self.op in ("rwkv7", "mamba2", "lightning") else self.dim**-0.5

    def check(self):
        """The same at a length where the loop in float64 is quick and a window bites."""
        return self if self.is_step else dataclasses.replace(self, time=704 if self.op in ATTENTION else 192)


def problems(threads, quick):
    for op in OPERATORS:
        for dim in (64, 128):
            yield Problem("scan", op, 2048, dim, threads)
    for op in ("gated_delta_rule", "kda", "softmax_attention"):
        for dim in (64, 128):
            yield Problem("vjp", op, 2048, dim, threads)
    for op in OPERATORS:
        for dim in (64, 128):
            for time in ((2048,) if quick else (2048, 8192)) if op == "softmax_attention" else (2048,) if op in ATTENTION else (1,):
                yield Problem("step", op, time, dim, threads)


def inputs(p):
    """float32 arrays [T, H, ...]; keys of unit length, log-decays in (-0.3, 0], betas in (0, 1)."""
    rng = np.random.default_rng(7)
    f = lambda x: np.ascontiguousarray(x, np.float32)
    if p.op in ATTENTION:
        queries = 1 if p.is_step else p.time
        return {n: f(rng.standard_normal((t, HEADS, p.dim))) for n, t in (("q", queries), ("k", p.time), ("v", p.time), ("d_o", queries))}
    if p.op == "short_conv":
        channels = HEADS * p.dim
        return dict(x=f(rng.standard_normal((p.time, channels))), weight=f(rng.standard_normal((channels, TAPS))),
                    past=f(rng.standard_normal((TAPS - 1, channels)) * p.is_step))
    unit = lambda heads: (lambda x: f(x / np.linalg.norm(x, axis=-1, keepdims=True)))(rng.standard_normal((p.time, heads, p.dim)))
    per_channel = p.op in ("kda", "gdn2", "gla", "rwkv7")
    x = dict(q=unit(HEADS), k=unit(HEADS), v=f(rng.standard_normal((p.time, HEADS, p.dim))))
    x["g"] = f(-0.3 * rng.random((p.time, HEADS, p.dim) if per_channel else (p.time, HEADS)))
    x["beta"] = f(rng.random((p.time, HEADS)))
    x["d_o"] = f(rng.standard_normal((p.time, HEADS, p.dim)))
    x["h0"] = f(rng.standard_normal((HEADS, p.dim, p.dim)) * 0.3 * p.is_step)
    if p.op == "gdn2":
        x |= dict(b=f(rng.random((p.time, HEADS, p.dim))), w=f(rng.random((p.time, HEADS, p.dim))))
    if p.op == "rwkv7":
        kappa = unit(HEADS)
        x |= dict(a=-kappa, b=f(kappa * rng.random((p.time, HEADS, p.dim))))
    if p.op == "lightning":
        x["g"] = f(-(2.0 ** -np.arange(1, HEADS + 1)))  # one a head
    if p.op == "mamba2":
        x |= dict(dt=f(rng.uniform(-4, -1, (p.time, HEADS))), A=f(rng.uniform(-1, -0.5, HEADS)), B=unit(1), C=unit(1))
    return x


def expected(p, x):
    """[T, H, V] in float64; of a convolution [T, channels]; of a vjp dq, dk and dv side by side."""
    x = {n: a.astype(np.float64) for n, a in x.items()}
    if p.op == "short_conv":
        padded = np.concatenate([x["past"], x["x"]])
        return sum(x["weight"][:, j] * padded[j : j + p.time] for j in range(TAPS))
    if p.op in ATTENTION:
        at = np.arange(p.time)
        queries = at[-1:] if p.is_step else at
        back = queries[:, None] - at
        seen = (back >= 0) & ((back < WINDOW) if p.op == "sliding_window_attention" else True)
        score = np.where(seen, np.einsum("ihd,jhd->hij", x["q"], x["k"]) * p.scale, -np.inf)
        weight = np.exp(score - score.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        if p.verb == "vjp":
            through = np.einsum("ihd,jhd->hij", x["d_o"], x["v"])
            score = weight * (through - (weight * through).sum(-1, keepdims=True)) * p.scale
            return np.concatenate([np.einsum("hij,jhd->ihd", score, x["k"]), np.einsum("hij,ihd->jhd", score, x["q"]),
                                   np.einsum("hij,ihd->jhd", weight, x["d_o"])], -1)
        return np.einsum("hij,jhd->ihd", weight, x["v"])
    q, k, z, decay = x["q"], x["k"], x["v"], np.exp(np.broadcast_to(x["g"], (p.time, HEADS)) if x["g"].ndim == 1 else x["g"])
    if p.op == "delta_rule":
        decay = np.ones((p.time, HEADS))
    if p.op == "mamba2":
        step = np.log1p(np.exp(x["dt"]))
        decay, z = np.exp(step * x["A"]), step[..., None] * z
        q, k = (np.broadcast_to(x[n], (p.time, HEADS, p.dim)) for n in "CB")
    erase, along = None, k
    if p.op in DELTA:
        erase = x["b"] * k if p.op == "gdn2" else x["beta"][..., None] * k
        z = x["w"] * z if p.op == "gdn2" else x["beta"][..., None] * z
    if p.op == "rwkv7":
        erase, along = -x["a"], x["b"]
    if p.verb == "vjp":
        return delta_gradients(p, x, decay)
    state, out = x["h0"], np.empty((p.time, HEADS, p.dim))
    for t in range(p.time):
        decayed = state * (decay[t][:, :, None] if decay.ndim == 3 else decay[t][:, None, None])
        new = decayed + k[t][:, :, None] * z[t][:, None, :]
        if erase is not None:
            read = np.einsum("hkv,hk->hv", state if p.op == "rwkv7" else decayed, erase[t])
            new -= along[t][:, :, None] * read[:, None, :]
        state = new
        out[t] = np.einsum("hkv,hk->hv", state, q[t] * p.scale)
    return out


def delta_gradients(p, x, decay):
    """dq, dk and dv of a delta rule with a decay, token by token."""
    q, k, v, beta = x["q"] * p.scale, x["k"], x["v"], x["beta"][..., None]
    decay = decay[..., None] if decay.ndim == 3 else decay[..., None, None]
    states, solved = [x["h0"]], []
    for t in range(p.time):
        decayed = states[-1] * decay[t]
        solved.append(beta[t] * (v[t] - np.einsum("hkv,hk->hv", decayed, k[t])))
        states.append(decayed + k[t][:, :, None] * solved[t][:, None, :])
    d, out = np.zeros_like(x["h0"]), np.empty((p.time, HEADS, 3 * p.dim))
    for t in reversed(range(p.time)):
        d += q[t][:, :, None] * x["d_o"][t][:, None, :]
        along = beta[t] * np.einsum("hkv,hk->hv", d, k[t])
        d_k = np.einsum("hkv,hv->hk", d, solved[t]) - np.einsum("hkv,hv->hk", states[t] * decay[t], along)
        d_q = np.einsum("hkv,hv->hk", states[t + 1], x["d_o"][t]) * p.scale
        out[t] = np.concatenate([d_q, d_k, along], -1)
        d = (d - k[t][:, :, None] * along[:, None, :]) * decay[t]
    return out
