"""The torch forms that models in transformers run with on a CPU."""
import torch
import transformers
from transformers.models.kimi_linear import modeling_kimi_linear as kimi
from transformers.models.mamba2 import modeling_mamba2 as mamba
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from problem import HEADS
from rival import rival
from rivals_torch import threads

VERSION = f"transformers {transformers.__version__}"


def plain(module, name):
    """The torch function under the wrapper that looks for device kernels."""
    f = getattr(module, name)
    while hasattr(f, "__wrapped__"):
        f = f.__wrapped__
    return f


def batch(*arrays):
    return [torch.from_numpy(a)[None].contiguous() for a in arrays]


def delta_form(function):
    def build(p, x):
        threads(p)
        q, k, v, g, beta, h0 = batch(*(x[n] for n in ("q", "k", "v", "g", "beta", "h0")))
        if p.op == "delta_rule":
            g = torch.zeros_like(g)
        return lambda: function(q, k, v, g, beta, initial_state=h0, output_final_state=True), lambda r: r[0][0].numpy()

    return build


rival("transformers chunks of 64", "scan/gated_delta_rule", "scan/delta_rule")(delta_form(plain(qwen, "torch_chunk_gated_delta_rule")))
rival("transformers token by token", "step/gated_delta_rule", "step/delta_rule")(delta_form(plain(qwen, "torch_recurrent_gated_delta_rule")))
rival("transformers chunks of 64", "scan/kda")(delta_form(plain(kimi, "chunk_kimi_delta_attention")))
rival("transformers token by token", "step/kda")(delta_form(plain(kimi, "recurrent_kimi_delta_attention")))


def delta_gradients(function):
    def build(p, x):
        threads(p)
        q, k, v, g, beta = (a.requires_grad_() for a in batch(*(x[n] for n in ("q", "k", "v", "g", "beta"))))
        d_o = torch.from_numpy(x["d_o"])[None]

        @torch.enable_grad()
        def call():
            o, _ = function(q, k, v, g, beta, initial_state=None, output_final_state=False)
            return torch.autograd.grad(o, (q, k, v, g, beta), d_o)

        return call, lambda r: torch.cat(r[:3], -1)[0].numpy()

    return build


rival("transformers chunks of 64 and their backward", "vjp/gated_delta_rule")(delta_gradients(plain(qwen, "torch_chunk_gated_delta_rule")))
rival("transformers chunks of 64 and their backward", "vjp/kda")(delta_gradients(plain(kimi, "chunk_kimi_delta_attention")))


@rival("transformers chunks of 64", "scan/mamba2")
def mamba2(p, x):
    threads(p)
    scan = plain(mamba, "mamba2_chunk_scan")
    v, dt, b, c = batch(x["v"], x["dt"], x["B"], x["C"])
    a = torch.from_numpy(x["A"])
    return lambda: scan(v, dt, a, b, c, 64, dt_softplus=True, return_final_states=True), lambda r: r[0][0].numpy()


@rival("transformers token by token", "step/mamba2")
def mamba2_step(p, x):
    threads(p)
    update = plain(mamba, "mamba2_selective_state_update")
    v, b, c = batch(x["v"][0], x["B"][0], x["C"][0])
    start = torch.from_numpy(x["h0"]).mT[None].contiguous()  # [1, H, value, key]
    a = torch.from_numpy(x["A"])[:, None, None].expand(HEADS, p.dim, p.dim).contiguous()
    dt = torch.from_numpy(x["dt"][0])[None, :, None].expand(1, HEADS, p.dim).contiguous()
    state = start.clone()
    first = update(state, v, dt, a, b, c, dt_softplus=True).clone()  # later calls go on from the state in place
    return lambda: update(state, v, dt, a, b, c, dt_softplus=True), lambda _: first.numpy()
