"""A rival: a name, the operators it has, and build(problem, inputs) -> (call, output).

call() runs it once on prepared inputs; output(call()) is its result as a numpy array of the reference's shape."""
import time

RIVALS = []


def rival(name, *names):
    """Registers a builder for problems named VERB/OPERATOR."""

    def register(build):
        RIVALS.append((name, frozenset(names), build))
        return build

    return register


def samples(call, budget, clock=time.perf_counter):
    """Seconds a call by the clock: at least 3 samples and `budget` seconds; short calls are grouped to 2 ms a sample."""
    if hasattr(call, "samples"):  # measures itself
        return call.samples(budget, clock is time.process_time)
    call()
    begin = clock()
    call()
    group = max(1, round(2e-3 / max(clock() - begin, 1e-8)))
    out, start = [], clock()
    while len(out) < 3 or clock() - start < budget:
        begin = clock()
        for _ in range(group):
            call()
        out.append((clock() - begin) / group)
    return out
