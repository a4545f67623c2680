"""ggml's operators, where GGML_ROOT names an installed one: a small program is built against it and holds one problem each."""
import os
import pathlib
import subprocess
import tempfile

import numpy as np

from problem import HEADS, WINDOW
from rival import rival

ROOT = os.environ.get("GGML_ROOT")
if not ROOT:
    raise ImportError("GGML_ROOT names no installed ggml")


def built():
    here = pathlib.Path(__file__).resolve().parent
    program = pathlib.Path(os.environ["WEFT_COMPARE_BUILD"]) / "ggml_rival"
    libraries = next((d for d in (pathlib.Path(ROOT) / "lib", pathlib.Path(ROOT) / "lib64", *pathlib.Path(ROOT).glob("lib/*-linux-gnu"))
                      if list(d.glob("libggml-cpu*"))), None)
    if libraries is None:
        raise ImportError(f"no libggml-cpu below {ROOT}")
    done = subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O2", here / "ggml_rival.cpp", f"-I{ROOT}/include", f"-L{libraries}",
                           "-lggml", "-lggml-cpu", "-lggml-base", "-pthread", f"-Wl,-rpath,{libraries}", "-o", program], capture_output=True, text=True)
    if done.returncode:
        raise ImportError("the program against it does not build: " + done.stderr.strip().splitlines()[0])
    return program


PROGRAM = built()
VERSION = "ggml"


class Process:
    """Holds the problem in a process of its own, which measures itself: a call through a pipe would cost more than a step."""

    def __init__(self, op, p, tokens, keys, arrays):
        self.folder = tempfile.TemporaryDirectory()
        self.result = pathlib.Path(self.folder.name) / "out"
        given = pathlib.Path(self.folder.name) / "in"
        with given.open("wb") as f:
            for a in arrays:
                f.write(np.ascontiguousarray(a, np.float32).tobytes())
        self.process = subprocess.Popen([PROGRAM, op, str(tokens), str(keys), str(p.dim), str(HEADS), str(p.threads), given, self.result],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("ggml's process ended")
        return answer

    def __call__(self):
        self.ask("run")
        return np.fromfile(self.result, np.float32)

    def samples(self, budget, processor_time):
        return [float(s) for s in self.ask(f"{'cpu ' if processor_time else 'time'} {budget}").split()]

    def __del__(self):
        if hasattr(self, "process"):
            self.process.stdin.close()
            self.process.wait()


def recurrent(op, p, *arrays):
    shape = (p.time, HEADS, p.dim)
    return Process(op, p, p.time, 0, arrays), lambda o: o[: np.prod(shape)].reshape(shape)  # the state comes behind


@rival("ggml gated_delta_net", *(f"{verb}/{op}" for verb in ("scan", "step") for op in ("gated_delta_rule", "kda")))
def gated_delta_net(p, x):
    op = "gated_delta_net_channels" if p.op == "kda" else "gated_delta_net"
    return recurrent(op, p, x["q"], x["k"], x["v"], x["g"], x["beta"], x["h0"].transpose(0, 2, 1))


@rival("ggml gated_linear_attn", "scan/gla", "step/gla")
def gated_linear_attn(p, x):
    return recurrent("gated_linear_attn", p, x["q"], x["k"], x["v"], np.exp(x["g"]), x["h0"])


@rival("ggml rwkv_wkv7", "scan/rwkv7", "step/rwkv7")
def rwkv7(p, x):
    return recurrent("rwkv_wkv7", p, x["q"], np.exp(x["g"]), x["k"], x["v"], x["a"], x["b"], x["h0"].transpose(0, 2, 1))


@rival("ggml ssm_scan", "scan/mamba2", "step/mamba2")
def ssm_scan(p, x):
    return recurrent("ssm_scan", p, x["h0"].transpose(0, 2, 1), x["v"], x["dt"], x["A"], x["B"], x["C"], np.zeros(1))


@rival("ggml ssm_conv", "scan/short_conv", "step/short_conv")
def ssm_conv(p, x):
    padded = np.concatenate([x["past"], x["x"]]).T
    return Process("ssm_conv", p, p.time, 0, (padded, x["weight"])), lambda o: o.reshape(p.time, -1)


@rival("ggml flash_attn_ext", *(f"{verb}/{op}" for verb in ("scan", "step") for op in ("softmax_attention", "sliding_window_attention")))
def flash_attn(p, x):
    windowed = p.op == "sliding_window_attention"
    keys = min(p.time, WINDOW) if windowed and p.is_step else p.time
    arrays = [x["q"].transpose(1, 0, 2), x["k"][-keys:].transpose(1, 0, 2), x["v"][-keys:].transpose(1, 0, 2)]
    if not p.is_step:
        at = np.arange(p.time)
        back = at[:, None] - at
        arrays.append(np.where((back >= 0) & ((back < WINDOW) if windowed else True), 0.0, -np.inf))
    return Process("flash_attn", p, len(x["q"]), keys, arrays), lambda o: o.reshape(len(x["q"]), HEADS, p.dim)
