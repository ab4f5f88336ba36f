#!/usr/bin/env python3
"""Draws what `make bench` and `make peers` have measured: build/bench/*.png and *.svg.

    bench/plot.py [--from build/bench] [--out build/bench]

gemm         tern alone: share of the roofline (the higher of the shares of arithmetic and of reading), by matrix and rows
rows         tern alone: share of a plain copy, by operator and size
attention    tern alone: rate of prompts and of tensors, share of reading of single tokens, by positions
mlp          tern alone: time over that of the bare products, with the middle 80 % of the rounds
peers-gemm   everyone: the same share, by matrix, for each dtype and number of rows
peers-ratio  time of each peer over tern's, with the smallest and the largest of the rounds: above 1 tern is faster
peers-ops    the same of rows, attention and feed-forwards
peers-models time of a forward pass, of a prompt, of a token
A file that is not there is left out, and named.  So is one that is no answer of theirs, and the end is then an error.
"""
import argparse
import json
import pathlib
import sys

try:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot  # the backend is chosen before
except ImportError:
    pyplot = None  # --help needs none

ROOT = pathlib.Path(__file__).resolve().parents[1]
DTYPES = ["fp32", "bf16", "int8"]
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
# Told apart by most eyes, in print as well (Okabe and Ito); tern is the black one.
COLOURS = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#999999"]


def save(figure, folder, name):
    for kind in ("png", "svg"):
        path = folder / f"{name}.{kind}"
        figure.savefig(path, dpi=120, bbox_inches="tight")
        print(path)
    pyplot.close(figure)


def shape(row):
    return f"{row['k']}x{row['n']}"


def present(values, order=None):
    """each once, in the given order, or in that of their first appearance"""
    found = list(dict.fromkeys(values))
    return sorted(found, key=order.index) if order else found


def roofline(row, seconds):
    """the best possible time over the one that was taken"""
    ops = 2 * row["m"] * row["k"] * row["n"] / row["ops_ceiling"]
    read = BYTES[row["dtype"]] * row["k"] * row["n"] / row["read_ceiling"] if row["read_ceiling"] else 0
    return max(ops, read) / seconds


def grid(rows, columns, width, height, title):
    figure, axes = pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, sharey=True)
    figure.suptitle(title)
    figure.subplots_adjust(hspace=0.55, wspace=0.05, top=1 - 0.55 / (height * rows))
    return figure, axes


def share_axis(axis):
    axis.axhline(100, color="#999999", linewidth=0.8)
    axis.grid(axis="y", alpha=0.3)


def plot_gemm(data, folder):
    rows = data["rows"]
    dtypes, shapes = present((r["dtype"] for r in rows), DTYPES), present(shape(r) for r in rows)
    counts = sorted({r["m"] for r in rows})
    figure, axes = grid(1, len(dtypes), 5, 3.5, f"tern {data['version']}, {data['isa']}, {data['threads']} thread(s): "
                        "products with weights from memory, share of the roofline")
    for axis, dtype in zip(axes[0], dtypes):
        for i, s in enumerate(shapes):
            own = {r["m"]: r for r in rows if r["dtype"] == dtype and shape(r) == s}
            ms = [m for m in counts if m in own]
            axis.plot([counts.index(m) for m in ms], [100 * roofline(own[m], own[m]["seconds"]) for m in ms], marker="o", markersize=3,
                      color=COLOURS[i % len(COLOURS)], label=s)
        axis.set_title(dtype)
        axis.set_xticks(range(len(counts)), [str(m) for m in counts])
        axis.set_xlabel("rows M")
        share_axis(axis)
    axes[0][0].set_ylabel("% of the roofline")
    axes[0][0].set_ylim(bottom=0)  # of all of them
    axes[0][-1].legend(fontsize=7, title="K x N", title_fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    save(figure, folder, "gemm")


def plot_rows(data, folder):
    rows = data["rows"]
    dtypes, ops = present((r["dtype"] for r in rows), ["fp32", "bf16", "fp16"]), present(r["op"] for r in rows)
    sizes = present((r["rows"], r["width"]) for r in rows)
    figure, axes = grid(len(dtypes), 1, 0.9 * len(ops) + 1, 2.4, f"tern {data['version']}, {data['isa']}, {data['threads']} thread(s): "
                        "rows from memory and back, share of a plain copy")
    for (axis,), dtype in zip(axes, dtypes):
        for i, size in enumerate(sizes):
            own = [r for r in rows if r["dtype"] == dtype and (r["rows"], r["width"]) == size]
            axis.bar([ops.index(r["op"]) + (i - (len(sizes) - 1) / 2) * 0.8 / len(sizes) for r in own], [100 * r["of_copy"] for r in own],
                     0.8 / len(sizes), color=COLOURS[i + 1], label="{} x {}".format(*size))
        axis.set_title(dtype, fontsize=9)
        axis.set_xticks(range(len(ops)), ops, fontsize=8)
        axis.set_ylabel("% of a copy")
        share_axis(axis)
    axes[0][0].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    save(figure, folder, "rows")


def plot_mlp(data, folder):
    rows = data["rows"]
    dtypes, whats = present((r["dtype"] for r in rows), DTYPES), present(r["what"] for r in rows)
    sizes, counts = present((r["h"], r["i"]) for r in rows), sorted({r["m"] for r in rows})
    titles = {"gelu": "product, bias and GELU over the product", "block": "the block over its two products"}
    figure, axes = grid(len(whats), len(dtypes), 4, 2.8, f"tern {data['version']}, {data['isa']}, {data['threads']} thread(s): feed-forwards")
    for line, what in zip(axes, whats):
        for axis, dtype in zip(line, dtypes):
            for i, size in enumerate(sizes):
                own = [r for r in rows if (r["what"], r["dtype"], (r["h"], r["i"])) == (what, dtype, size)]
                axis.errorbar([counts.index(r["m"]) + 0.1 * i for r in own], [r["ratio"] for r in own],
                              [[r["ratio"] - r["ratio_low"] for r in own], [r["ratio_high"] - r["ratio"] for r in own]], marker="o",
                              markersize=3, capsize=2, color=COLOURS[i + 1], label="{} / {}".format(*size))
            axis.set_title(f"{dtype}: {titles[what]}", fontsize=8)
            axis.set_xticks(range(len(counts)), [str(m) for m in counts])
            axis.set_xlabel("rows M")
            axis.set_ylim(0.9, 2)
            axis.axhline(1, color="#999999", linewidth=0.8)
            axis.grid(axis="y", alpha=0.3)
    axes[0][0].legend(fontsize=7)
    save(figure, folder, "mlp")


def plot_attention(data, folder):
    rows = [r for r in data["rows"] if r["what"] != "store"]
    dtypes, lengths = present((r["dtype"] for r in rows), ["fp32", "bf16", "fp16"]), sorted({r["length"] for r in rows})
    figure, axes = pyplot.subplots(2, len(dtypes), figsize=(4 * len(dtypes), 5.6), squeeze=False, sharey="row")
    figure.suptitle(f"tern {data['version']}, {data['isa']}, {data['threads']} thread(s): attention, heads of 64")
    figure.subplots_adjust(hspace=0.35, wspace=0.08, top=0.9)
    for x, dtype in enumerate(dtypes):
        own = [r for r in rows if r["dtype"] == dtype]
        for i, line in enumerate(present((r["what"], r["heads"], r["kv_heads"], r["causal"]) for r in own)):
            what, heads, kv_heads, causal = line
            points = [r for r in own if (r["what"], r["heads"], r["kv_heads"], r["causal"]) == line]
            decode = what == "decode"
            values = [100 * r["of_read"] if decode and r["of_read"] else 1e-9 * r["ops_per_s"] for r in points]
            label = f"{heads} heads, {kv_heads} of keys" if decode else f"{what}, {'causal' if causal else 'full'}"
            axes[int(decode)][x].plot([lengths.index(r["length"]) for r in points], values, marker="o", markersize=3,
                                 color=COLOURS[i % len(COLOURS)], label=label)
        for y, title in enumerate(("GFLOP/s", "one token, % of reading")):
            axes[y][x].set_title(f"{dtype}: {title}", fontsize=8)
            axes[y][x].set_xticks(range(len(lengths)), [str(int(n)) for n in lengths])
            axes[y][x].grid(axis="y", alpha=0.3)
            axes[y][x].legend(fontsize=6)
    for line in axes:
        line[0].set_ylim(bottom=0)  # of all of them
    save(figure, folder, "attention")


def draw_shares(axis, own, shapes, names):
    """bars of everyone who has a result, side by side"""
    for at, who, there, width in places(own, shapes, names):
        axis.bar(at, [100 * roofline(r, r["results"][who]["seconds"]) for r in there], width, color=COLOURS[names.index(who) % len(COLOURS)],
                 label=who)
    share_axis(axis)


def draw_ratios(axis, own, shapes, names):
    """the same for everyone but tern, with the smallest and the largest ratio; from 1 on, downwards where tern is slower"""
    for at, who, there, width in places(own, shapes, names, skip=1):
        results = [r["results"][who] for r in there]
        middle = [r["ratio"] for r in results]
        axis.bar(at, [x - 1 for x in middle], width, bottom=1, color=COLOURS[names.index(who) % len(COLOURS)], label=who)
        axis.errorbar(at, middle, [[r["ratio"] - r["ratio_low"] for r in results], [r["ratio_high"] - r["ratio"] for r in results]],
                      fmt="none", ecolor="#444444", elinewidth=0.7)
    axis.axhline(1, color="#000000", linewidth=0.8)
    axis.set_yscale("log", base=2)
    axis.set_ylim(0.5, 16)
    axis.set_yticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
    axis.grid(axis="y", alpha=0.3)


def places(own, shapes, names, skip=0):
    """(positions, contestant, rows, width of a bar) of each who has a result among `own`, rows by shape"""
    shown = [who for who in names if any(who in r["results"] for r in own.values())][skip:]
    width = 0.8 / max(1, len(shown))
    for i, who in enumerate(shown):
        there = [s for s in shapes if s in own and who in own[s]["results"]]
        yield [shapes.index(s) + (i - (len(shown) - 1) / 2) * width for s in there], who, [own[s] for s in there], width


def plot_peers(data, folder, threads):
    rows = [r for r in data["gemm"] if r["threads"] == threads]
    dtypes, counts = present((r["dtype"] for r in rows), DTYPES), sorted({r["m"] for r in rows})
    shapes = present(shape(r) for r in sorted(rows, key=lambda r: (r["k"] * r["n"], r["k"])))
    names = present(n for r in sorted(rows, key=lambda r: DTYPES.index(r["dtype"])) for n in r["results"])
    suffix = "" if threads == 1 else f"-{threads}-threads"
    for name, draw, label in (("peers-gemm", draw_shares, "% of the roofline"),
                              ("peers-ratio", draw_ratios, "time of a peer / time of tern")):
        figure, axes = grid(len(dtypes), len(counts), 0.6 * len(shapes) + 1, 2.6,
                            f"{data['processor']}, {threads} thread(s), weights from memory: {label}")
        handles = {}
        for y, dtype in enumerate(dtypes):
            for x, m in enumerate(counts):
                axis = axes[y][x]
                draw(axis, {shape(r): r for r in rows if r["dtype"] == dtype and r["m"] == m}, shapes, names)
                axis.set_title(f"{dtype}, M = {m}", fontsize=9)
                axis.set_xlim(-0.6, len(shapes) - 0.4)
                axis.set_xticks(range(len(shapes)), shapes, rotation=40, fontsize=7, ha="right")
                handles |= {text: handle for handle, text in zip(*axis.get_legend_handles_labels())}
            axes[y][0].set_ylabel(label)
        figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=len(handles), fontsize=8, bbox_to_anchor=(0.5, -0.02))
        save(figure, folder, name + suffix)


def plot_ops(data, folder, threads):
    rows = [r for r in data["ops"] if r["threads"] == threads]
    dtypes, cases = present((r["dtype"] for r in rows), DTYPES), present((r["op"], r["size"]) for r in rows)
    labels = [f"{op} {size}" for op, size in cases]
    names = present(n for r in rows for n in r["results"])
    figure, axes = grid(len(dtypes), 1, 0.55 * len(cases) + 1, 2.6, f"{data['processor']}, {threads} thread(s): time of a peer / time of tern")
    for (axis,), dtype in zip(axes, dtypes):
        draw_ratios(axis, {f"{r['op']} {r['size']}": r for r in rows if r["dtype"] == dtype}, labels, names)
        axis.set_title(dtype, fontsize=9)
        axis.set_xlim(-0.6, len(labels) - 0.4)
        axis.set_xticks(range(len(labels)), labels, rotation=40, fontsize=7, ha="right")
        axis.legend(fontsize=7, loc="upper right")
    figure.subplots_adjust(hspace=0.9)
    save(figure, folder, "peers-ops" + ("" if threads == 1 else f"-{threads}-threads"))


def plot_models(data, folder, threads):
    rows = [r for r in data["models"] if r["threads"] == threads]
    works = present((r["shape"], r["what"], r["tokens"]) for r in rows)
    names = present(n for r in rows for n in r["results"])
    figure, axes = pyplot.subplots(1, len(works), figsize=(5 * len(works), 3.5), squeeze=False)
    figure.suptitle(f"{data['processor']}, {threads} thread(s)")
    for axis, work in zip(axes[0], works):
        own = [r for r in rows if (r["shape"], r["what"], r["tokens"]) == work]
        dtypes = present((r["dtype"] for r in own), DTYPES)
        there = [who for who in names if any(who in r["results"] for r in own)]
        for i, who in enumerate(there):
            results = [(dtypes.index(r["dtype"]), r["results"][who]) for r in own if who in r["results"]]
            bars = axis.bar([at + (i - (len(there) - 1) / 2) * 0.8 / len(there) for at, _ in results],
                            [1e3 * r["seconds"] for _, r in results], 0.8 / len(there), color=COLOURS[names.index(who) % len(COLOURS)],
                            label=who)
            axis.bar_label(bars, [f"{1e3 * r['seconds']:.0f}" for _, r in results], fontsize=7)
        axis.set_title("{}, {} {}".format(*work), fontsize=9)
        axis.set_xticks(range(len(dtypes)), dtypes)
        axis.set_ylabel("ms")
        axis.legend(fontsize=8)
    figure.tight_layout()
    save(figure, folder, "peers-models" + ("" if threads == 1 else f"-{threads}-threads"))


def read(path, lists):
    """(answer, whether it is one): an object with a list under one of these names at least; nothing of a file that is not there"""
    if not path.exists():
        print(f"plot: {path} is not there: left out", file=sys.stderr)
        return {}, True
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        print(f"plot: {path} is not JSON: left out ({reason})", file=sys.stderr)
        return {}, False
    if not isinstance(answer, dict) or not any(isinstance(answer.get(name), list) for name in lists):
        print(f"plot: {path} is no answer of a benchmark: left out (got no list {' or '.join(lists)})", file=sys.stderr)
        return {}, False
    return answer, True


def main():
    """0, or 1 where a file that is there was left out"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=pathlib.Path, default=ROOT / "build/bench")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench")
    options = parser.parse_args()
    if pyplot is None:
        sys.exit(f"plot: {sys.executable} has no matplotlib: `make peers-setup` installs Debian's, for /usr/bin/python3; "
                 f"or {sys.executable} -m pip install matplotlib")
    options.out.mkdir(parents=True, exist_ok=True)
    whole = True
    for name, plot in (("gemm", plot_gemm), ("rows", plot_rows), ("mlp", plot_mlp), ("attention", plot_attention)):
        own, good = read(options.source / f"{name}.json", ["rows"])
        whole &= good
        if own:
            plot(own, options.out)
    works = {"gemm": plot_peers, "ops": plot_ops, "models": plot_models}
    peers, good = read(options.source / "peers.json", works)
    whole &= good
    for work, plot in works.items():
        for threads in sorted({r["threads"] for r in peers.get(work, [])}):
            plot(peers, options.out, threads)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
