"""The picture: for every operator and width a bar, how many times faster weft is than the fastest rival; logarithmic."""
import html
import math

INK, SOFT, LINE, PAPER = "#1f2328", "#6a737d", "#d8dee4", "#ffffff"
COLOURS = {64: "#8fb8de", 128: "#2a6fb0"}
LABEL, PLOT, NOTE, ROW, GROUP = 265, 420, 235, 17, 14


def text(x, y, words, size=12, fill=INK, anchor="start", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}">{html.escape(words)}</text>'


def draw(rows, machine):
    rows = [r for r in rows if r[4]]  # (problem, rival, its ms, ours, ratio)
    if not rows:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>\n'
    ratios = [r[4] for r in rows]
    low = min(0.5, 2 ** math.floor(math.log2(min(ratios))))
    high = max(4.0, 2 ** math.ceil(math.log2(max(ratios))))
    x = lambda ratio: LABEL + PLOT * math.log(ratio / low) / math.log(high / low)
    body, y, last = [], 92.0, None
    for p, rival, _, _, ratio in rows:
        group = (p.verb, p.op, p.time)
        if last is None or last[0] != p.verb:
            y += 12
            body.append(text(16, y + 12, {"scan": "Whole sequences (scan)", "step": "One token of decoding (step)",
                                         "vjp": "Forward and backward (vjp)"}[p.verb], 13, weight="bold"))
            y += 28
        elif last != group:
            y += GROUP
        if last != group:
            length = f", {p.time} keys" if p.is_step and p.time > 1 else ""
            body.append(text(LABEL - 14, y + 13, p.op + length, anchor="end"))
        start, end = sorted((x(1.0), x(ratio)))
        body.append(f'<rect x="{start:.1f}" y="{y:.1f}" width="{max(end - start, 1):.1f}" height="{ROW - 3}" rx="2" fill="{COLOURS[p.dim]}"/>')
        body.append(text(max(end, x(1.0)) + 6, y + 11, f"{ratio:.2g}×", 11, weight="bold"))
        body.append(text(max(end, x(1.0)) + 44, y + 11, rival, 10, SOFT))
        y, last = y + ROW, group
    grid, tick = [], low
    while tick <= high * 1.001:
        strong = abs(tick - 1) < 1e-9
        grid.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="88" y2="{y + 6:.1f}" stroke="{INK if strong else LINE}" stroke-width="1"/>')
        grid.append(text(x(tick), y + 22, f"{tick:g}×", 11, SOFT, "middle"))
        tick *= 2
    width, height = LABEL + PLOT + NOTE, y + 40
    head = [text(16, 28, "weft against the fastest rival of each shape", 17, weight="bold"), text(16, 48, machine, 11, SOFT),
            text(16, 64, "Times faster, by medians of alternating rounds; left of 1× the rival is faster. Beside each bar: that rival.", 11, SOFT)]
    for i, (dim, colour) in enumerate(COLOURS.items()):
        head.append(f'<rect x="{LABEL + 90 * i}" y="74" width="12" height="10" rx="2" fill="{colour}"/>')
        head.append(text(LABEL + 90 * i + 18, 83, f"d = {dim}", 11))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
            f'font-family="system-ui, sans-serif">\n<rect width="100%" height="100%" fill="{PAPER}"/>\n' + "\n".join(head + grid + body) + "\n</svg>\n")
