"""onnxruntime's operators, each as a model of one node with inputs and outputs bound before the call."""
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from problem import HEADS, WINDOW
from rival import rival

VERSION = f"onnxruntime {ort.__version__}"
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}


def bound(op, names, feeds, outputs, threads, domain="com.microsoft", shared=(), **attributes):
    """`shared`: (input, output) pairs that are one buffer, as a cache is."""
    node = helper.make_node(op, names, outputs, domain=domain, **attributes)
    graph = helper.make_graph([node], "one", [helper.make_tensor_value_info(n, TYPES[x.dtype], x.shape) for n, x in feeds.items()],
                              [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    held = {n: ort.OrtValue.ortvalue_from_numpy(x) for n, x in feeds.items()}
    for n, x in held.items():
        binding.bind_ortvalue_input(n, x)
    same = {o: held[i] for i, o in shared}
    for o in outputs:
        binding.bind_ortvalue_output(o, same[o]) if o in same else binding.bind_output(o, "cpu")

    def call(keep=held):
        session.run_with_iobinding(binding)
        return binding

    return call


def first(shape):
    return lambda binding: binding.get_outputs()[0].numpy().reshape(shape)


RULES = {"delta_rule": "delta", "gated_delta_rule": "gated_delta", "kda": "gated_delta", "simple_gla": "gated", "gla": "gated",
         "lightning": "gated"}


@rival("onnxruntime LinearAttention", *(f"{verb}/{op}" for verb in ("scan", "step") for op in RULES))
def linear_attention(p, x):
    rule = RULES[p.op]
    packed = lambda a: np.ascontiguousarray(a.reshape(1, p.time, -1))
    feeds = {n: packed(x[n]) for n in "qkv"} | {"s": x["h0"][None]}
    names = ["q", "k", "v", "s", "", ""]
    if "gated" in rule:
        feeds["g"] = packed(np.broadcast_to(x["g"], (p.time, HEADS)) if p.op == "lightning" else x["g"])
        names[4] = "g"
    if "delta" in rule:
        feeds["b"] = packed(x["beta"])
        names[5] = "b"
    while not names[-1]:
        names.pop()
    call = bound("LinearAttention", names, feeds, ["o", "s1"], p.threads, q_num_heads=HEADS, kv_num_heads=HEADS, update_rule=rule,
                 scale=p.scale)
    return call, first((p.time, HEADS, p.dim))


@rival("onnxruntime GroupQueryAttention", "scan/softmax_attention", "scan/sliding_window_attention")
def group_query_attention(p, x):
    feeds = {n: x[n].reshape(1, p.time, -1) for n in "qkv"}
    feeds |= dict(last=np.array([p.time - 1], np.int32), total=np.array([p.time], np.int32))
    call = bound("GroupQueryAttention", ["q", "k", "v", "", "", "last", "total"], feeds, ["o", "k1", "v1"], p.threads, num_heads=HEADS,
                 kv_num_heads=HEADS, local_window_size=WINDOW if p.op == "sliding_window_attention" else -1)
    return call, first((p.time, HEADS, p.dim))


@rival("onnxruntime GroupQueryAttention", "step/softmax_attention", "step/sliding_window_attention")
def group_query_decode(p, x):
    cache = lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)[None])
    feeds = {n: x[n][-1:].reshape(1, 1, -1) for n in "qkv"} | {"k0": cache(x["k"]), "v0": cache(x["v"])}
    feeds |= dict(last=np.array([p.time - 1], np.int32), total=np.array([p.time], np.int32))
    call = bound("GroupQueryAttention", ["q", "k", "v", "k0", "v0", "last", "total"], feeds, ["o", "k1", "v1"], p.threads, num_heads=HEADS,
                 kv_num_heads=HEADS, local_window_size=WINDOW if p.op == "sliding_window_attention" else -1, shared=(("k0", "k1"), ("v0", "v1")))
    return call, first((1, HEADS, p.dim))


@rival("onnxruntime Attention", "step/softmax_attention")
def attention_decode(p, x):
    feeds = {n: np.ascontiguousarray(x[n].transpose(1, 0, 2)[None]) for n in "qkv"}
    return bound("Attention", ["q", "k", "v"], feeds, ["o"], p.threads, domain=""), first((1, HEADS, p.dim))


@rival("onnxruntime CausalConvWithState", "scan/short_conv", "step/short_conv")
def causal_conv(p, x):
    feeds = dict(x=np.ascontiguousarray(x["x"].T[None]), w=x["weight"][:, None], past=np.ascontiguousarray(x["past"].T[None]))
    call = bound("CausalConvWithState", ["x", "w", "", "past"], feeds, ["o", "past1"], p.threads)
    return call, lambda b: b.get_outputs()[0].numpy()[0].T
