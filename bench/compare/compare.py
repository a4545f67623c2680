#!/usr/bin/env python3
"""weft beside its rivals, in one run: ./cmake/start.sh compare [--ops LIST] [--threads N] [--quick]

For every shape the peers take turns over several rounds; each rival is first held against a plain loop in float64, and weft_bench
does the same for ours. Prints medians, writes compare.json and compare.svg. A rival that is not there, or that has no such
operator, is left out; one that computes something else is named and not timed."""
import argparse
import importlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "transformers")
MODULES = ("rivals_onnx", "rivals_torch", "rivals_transformers", "rivals_ggml")
BOUND = 1e-4  # largest error over largest value; float32 forms of 192 to 704 tokens stay ten times below


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="build folder with bench/weft_bench; the Python environment is made in it")
    parser.add_argument("--ops", default="", help="comma-separated: gated_delta_rule or scan/gated_delta_rule, ...")
    parser.add_argument("--threads", type=int, default=1, choices=(1, 2))
    parser.add_argument("--quick", action="store_true", help="one round instead of three, and no compiled rivals")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, not the wall clock's: for a machine with other work; one thread")
    parser.add_argument("--python", help="a Python that has the rivals, instead of an environment of our own")
    parser.add_argument("--out", default=".", help="folder of compare.json and compare.svg")
    args = parser.parse_args()
    if args.cpu_time and args.threads > 1:
        parser.error("--cpu-time: expected one thread, got " + str(args.threads))
    return args


def enter_environment(args):
    """Starts this script again with a Python that can have the rivals."""
    python = args.python
    if not python:
        home = pathlib.Path(args.build).resolve() / "compare-python"
        python = home / "bin" / "python"
        if not python.exists():
            print(f"Making a Python environment in {home}: several GB, which may take minutes", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", home], check=True)
        for package in PACKAGES:  # one by one: what cannot be had is one missing rival
            if subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode:
                print(f"Installing {package}", file=sys.stderr)
                subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", package], stdout=sys.stderr)
    os.environ["WEFT_COMPARE_INSIDE"] = "1"
    os.execv(python, [str(python), str(HERE / "compare.py"), *sys.argv[1:]])


def load_rivals(args):
    os.environ["WEFT_COMPARE_BUILD"] = str(pathlib.Path(args.build).resolve())
    versions = []
    for name in MODULES:
        try:
            versions.append(importlib.import_module(name).VERSION)
        except Exception as e:  # whatever keeps a package from being used makes it a missing rival
            print(f"missing: {name.removeprefix('rivals_')}: {str(e).splitlines()[0]}")
    print("rivals: " + (", ".join(versions) or "none"))


def ready_rivals(p, quick):
    """[(name, call)] of the rivals that compute what the problem asks."""
    import numpy as np

    from problem import expected, inputs
    from rival import RIVALS

    checked, ready = p.check(), []
    small = inputs(checked)
    reference = expected(checked, small)
    for name, names, build in RIVALS:
        if p.name not in names or (quick and "compiled" in name):
            continue
        try:
            call, output = build(checked, small)
            got = np.asarray(output(call()), np.float64)
            error = float(np.max(np.abs(got - reference)) / np.max(np.abs(reference))) if got.shape == reference.shape else float("inf")
            if not error <= BOUND:
                print(f"not timed: {name}: {p.name} {p.cfg}: differs from float64 by {error:.1e} of the largest value")
                continue
            ready.append((name, call if checked == p else build(p, inputs(p))[0]))
        except Exception as e:
            print(f"not timed: {name}: {p.name} {p.cfg}: {type(e).__name__}: {str(e).splitlines()[0][:120]}")
    return ready


def run_weft(program, p, out, field):
    """Seconds a call, and the best repetition, its rates by the same clock."""
    done = subprocess.run([program, "--all", f"--benchmark_filter=^{re.escape(p.benchmark)}$", "--benchmark_min_time=0.05", "--benchmark_repetitions=4",
                           f"--benchmark_out={out}", "--benchmark_out_format=json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare: {program} failed on {p.benchmark}: {done.stderr.strip()}")
    written = pathlib.Path(out).read_text()
    if not written:
        return None, "no such benchmark", {}
    report = json.loads(written)
    rows = [r for r in report["benchmarks"] if r["run_type"] == "iteration"]
    wrong = [r["error_message"] for r in rows if r.get("error_occurred")]
    if wrong:
        return None, wrong[0], report["context"]
    unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
    best = min(rows, key=lambda r: r[field])
    rates = {n: best[n] * best["real_time"] / best[field] for n in ("share_of_peak", "gb_per_second") if n in best}
    return [r[field] * unit[r["time_unit"]] for r in rows], dict(rates, time=best[field]), report["context"]


def measure(p, args, program, scratch):
    """One row: the samples of every peer, and our counters."""
    from rival import samples

    rivals = ready_rivals(p, args.quick)
    times, counters, context = {}, None, {}
    field, clock = ("cpu_time", time.process_time) if args.cpu_time else ("real_time", time.perf_counter)
    for _ in range(1 if args.quick else 3):
        seconds, told, context = run_weft(program, p, scratch, field)
        if seconds is None:
            print(f"not timed: weft: {p.name} {p.cfg}: {told}")
        else:
            times.setdefault("weft", []).extend(seconds)
            if counters is None or told["time"] < counters["time"]:
                counters = told
        for name, call in rivals:
            times.setdefault(name, []).extend(samples(call, 0.15, clock))
            if args.threads > 1:
                time.sleep(0.25)  # idle pools of one peer must not spin beside the next
    return dict(problem=p, times=times, counters=counters or {}, context=context)


def median_ms(seconds):
    return 1e3 * statistics.median(seconds)


def summary(row):
    """(fastest rival, its ms, our ms, how many times faster we are), by medians; None where it means nothing."""
    rivals = {n: median_ms(t) for n, t in row["times"].items() if n != "weft"}
    ours = median_ms(row["times"]["weft"]) if "weft" in row["times"] else None
    best = min(rivals, key=rivals.get) if rivals else None
    return best, rivals.get(best), ours, rivals[best] / ours if best and ours else None


def print_row(row):
    p = row["problem"]
    best, theirs, ours, ratio = summary(row)
    share, rate = row["counters"].get("share_of_peak"), row["counters"].get("gb_per_second")
    show = lambda x, form: format(x, form) if x is not None else "-"
    print(f"| {p.name} | {p.time} | {p.dim} | {best or 'none'} | {show(theirs, '.3g')} | {show(ours, '.3g')} | {show(ratio, '.2f')} | "
          f"{show(share and 100 * share, '.0f')} | {show(rate if p.is_step else None, '.1f')} |", flush=True)


def main():
    args = arguments()
    if "WEFT_COMPARE_INSIDE" not in os.environ:
        enter_environment(args)
    sys.path.insert(0, str(HERE))
    program = pathlib.Path(args.build).resolve() / "bench" / "weft_bench"
    if not program.exists():
        sys.exit(f"compare: expected {program}: build the target weft_bench first")
    try:
        from problem import OPERATORS, problems
    except ImportError as e:
        sys.exit(f"compare: the references need numpy, which could not be installed: {e}")
    load_rivals(args)

    wanted = [o for o in args.ops.split(",") if o]
    for o in wanted:
        if o.split("/")[-1] not in OPERATORS:
            sys.exit(f"compare: --ops: expected names of {', '.join(OPERATORS)}, got {o}")
    rows = []
    for p in problems(args.threads, args.quick):
        if wanted and p.op not in wanted and p.name not in wanted:
            continue
        if not rows:
            print("\n| operator | T | d | fastest rival | its ms | weft ms | times faster | % of FMA peak | GB/s |\n|---|---|---|---|---|---|---|---|---|")
        rows.append(measure(p, args, program, program.parent / "compare-weft.json"))
        print_row(rows[-1])
    out = pathlib.Path(args.out)
    flat = [dict(op=r["problem"].name, cfg=r["problem"].cfg, peer=n, ms=round(1e3 * min(t), 6), ms_median=round(median_ms(t), 6))
            for r in rows for n, t in r["times"].items()]
    (out / "compare.json").write_text(json.dumps(flat, indent=1) + "\n")
    context = next((r["context"] for r in rows if r["context"]), None)
    if not context:
        sys.exit("compare: weft_bench measured nothing")
    machine = (f"{context['processor']}, {context['instruction_set']}, {args.threads} thread{'s' * (args.threads > 1)}, float32, "
               f"H = 8; FMA peak {float(context['fma_peak_gflops']):.0f} GFLOP/s a thread")
    machine += ", processor time" * args.cpu_time
    print(f"\n{machine}. Medians over alternating rounds; best rounds are in compare.json.")
    from chart import draw

    (out / "compare.svg").write_text(draw([(r["problem"], *summary(r)) for r in rows], machine))


main()
