#!/usr/bin/env python3
"""The same small hybrid trained by weft and by transformers + torch in one run, taking turns: tokens a second, and their ratio.

    bench/compare/training.py [--build build] [--rounds 3] [--steps 12] [--threads 1]

Uses the Python environment that ./cmake/start.sh compare makes in the build folder, or --python. Both have the model of
examples/data/tinylm from random numbers, AdamW, clipping and the same batches of 4 x 256 bytes."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "data" / "tinylm"
BATCH, LENGTH = 4, 256


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help="build folder with examples/train")
    parser.add_argument("--python", help="a Python that has torch and transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="steps a round")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def ours(args):
    """Tokens a second and the number of parameters."""
    command = [args.build / "examples" / "train", "--text", MODEL / "heldout.txt", "--steps", str(args.steps), "--batch", str(BATCH), "--length", str(LENGTH),
               "--threads", str(args.threads), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["tokens_per_s"], report["parameters"]


class Theirs:
    def __init__(self, threads):
        import numpy
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        self.torch, self.numpy = torch, numpy
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        config = transformers.AutoConfig.from_pretrained(MODEL)
        self.model = transformers.AutoModelForCausalLM.from_config(config)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.01)
        self.text = numpy.frombuffer((MODEL / "heldout.txt").read_bytes(), numpy.uint8)
        self.random = numpy.random.default_rng(5)

    def step(self):
        at = self.random.integers(0, len(self.text) - LENGTH - 1, BATCH)
        x = self.torch.tensor(self.numpy.stack([self.text[i:i + LENGTH + 1] for i in at]).astype(self.numpy.int64))
        logits = self.model(input_ids=x[:, :-1], use_cache=False).logits
        loss = self.torch.nn.functional.cross_entropy(logits.reshape(-1, 256), x[:, 1:].reshape(-1))
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def tokens_per_s(self, steps):
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        return steps * BATCH * LENGTH / (time.perf_counter() - begin)


def main():
    args = arguments()
    python = args.python or args.build / "compare-python" / "bin" / "python"
    if "WEFT_TRAINING_INSIDE" not in os.environ:
        if not pathlib.Path(python).exists():
            sys.exit(f"training.py: {python}: expected a Python with torch and transformers; ./cmake/start.sh compare makes one")
        os.environ["WEFT_TRAINING_INSIDE"] = "1"
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    peer = Theirs(args.threads)
    peer.step()  # what is made once
    rates = {"weft": [], "peer": []}
    for _ in range(args.rounds):
        rate, parameters = ours(args)
        if parameters != peer.parameters:
            sys.exit(f"training.py: expected the same model, got {parameters} parameters and {peer.parameters}")
        rates["weft"].append(rate)
        rates["peer"].append(peer.tokens_per_s(args.steps))
    ours_median, theirs_median = (statistics.median(rates[name]) for name in ("weft", "peer"))
    print(f"training {peer.parameters} parameters, {BATCH} x {LENGTH} bytes a step, {args.threads} thread{'s' if args.threads > 1 else ''}, medians of {args.rounds} rounds")
    print(f"{peer.version:42} {theirs_median:10.0f} tokens/s")
    print(f"{'weft':42} {ours_median:10.0f} tokens/s, {ours_median / theirs_median:.2f} times as many")


if __name__ == "__main__":
    main()
