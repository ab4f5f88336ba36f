#!/usr/bin/env python3
"""Times tern and the libraries that one would otherwise take on the same work, in turn, in one run.

    bench/peers/run.py [--build build/release] [--threads 1] [--work gemm,rows,attention,mlp,bert,prefill,decode] [--dtype fp32,bf16,int8]
                       [--shape 768x3072,..] [--rows 1,16,128] [--op layer_norm,..] [--only NAME,..] [--rounds 5] [--ms 25] [--python PATH]...
                       [--out build/bench/peers.json]

Each contestant is a program of its own that sets up a case, checks its result, and waits (peer.c, peer.py).  Then they run one
after the other, a few products each, tern among them, for `rounds` times, every second time in the opposite order: whatever the
machine does meanwhile, it does to all.  A ratio is the time of a peer over tern's in the same round: above 1 tern is faster.  Shown
are the medians of the rounds, and the smallest and the largest.

Who is not installed is left out, and named.  Results are added to what the file of --out holds, and at the end the ratios of all
products in it are summed up over the matrices; --work '' does that alone.  A file that is not JSON is left out, and the end is then an
error.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")
HEADERS = pathlib.Path("/usr/include/x86_64-linux-gnu")
# Widths of GPT-2 and BERT, of MiniLM, of LLaMA 7B.
SHAPES = "768x2304,768x3072,3072x768,768x768,384x1536,1536x384,4096x4096,4096x11008"
# Rows and their width; positions and whether causal; width, inner width.
ROW_OPS = "layer_norm,rms_norm,softmax,gelu_tanh,gelu_erf,add"
ROW_SHAPES = ((512, 768), (512, 3072), (2048, 4096))
ATTENTION = ((128, 0), (128, 1), (512, 0), (512, 1), (2048, 0), (2048, 1))
HEADS = 12
MLP_SHAPES = ((768, 3072), (4096, 11008))
# Numbers of a matrix.  Its copies fill 192 MiB (peer.c), and each is set up by itself: of 1x1 that would be 50 millions.  The largest is
# 1 GiB in fp32.  Sums are exact up to a K of 44000 (peer.h).
MATRIX = (1 << 16, 1 << 28)
K_MAX = 44000
ROWS_MAX = 16384
ROUNDS_MAX = 1000
MS_MAX = 60000
DTYPES = ["fp32", "bf16", "int8"]
# Whole models: shape and row of `tern bench`, tokens, and who else does it (name, program, what it imports).
MODELS = {
    "bert": ("bert-base", "forward", 128, ("torch", "bert_torch.py", "torch, numpy")),
    "prefill": ("llama-1.1b", "prefill", 512, ("llama.cpp", "llama_cpp_python.py", "llama_cpp, gguf, numpy")),
    "decode": ("llama-1.1b", "decode", 128, ("llama.cpp", "llama_cpp_python.py", "llama_cpp, gguf, numpy")),
}
WORKS = ["gemm", "rows", "attention", "mlp", *MODELS]
NAMES = ["tern", "openblas", "blis", "onednn", "torch", "onnxruntime", "llama.cpp"]
OPERATORS = (("torch", "ops_torch.py", "torch, numpy"),)
PRODUCTS = (("torch", "gemm_torch.py", "torch, numpy"), ("onnxruntime", "gemm_onnxruntime.py", "onnxruntime, onnx, numpy"))


def say(*words):
    print(*words, file=sys.stderr, flush=True)


# ---- programs ------------------------------------------------------------------------------------------------------------

def compile_program(folder, name, sources, flags):
    """the path of the program, None where it does not build"""
    program = folder / name
    made_of = [*(HERE / s for s in sources), HERE / "peer.h", pathlib.Path(__file__)]
    if program.exists() and program.stat().st_mtime > max(f.stat().st_mtime for f in made_of):
        return program
    objects = []
    for source in sources:
        target = folder / f"{name}-{source}.o"
        compiler = ["c++", "-std=c++17", "-fopenmp"] if source.endswith(".cpp") else ["cc", "-std=c11", "-D_GNU_SOURCE"]
        objects.append(str(target))
        made = subprocess.run([*compiler, "-O2", "-Wall", "-Wextra", *(f for f in flags if f[:2] in ("-I", "-D")), "-c",
                               str(HERE / source), "-o", str(target)], capture_output=True, text=True)
        if made.returncode:
            say(f"{name}: does not compile:\n{made.stderr}")
            return None
    linker = ["c++", "-fopenmp"] if any(s.endswith(".cpp") for s in sources) else ["cc"]
    made = subprocess.run([*linker, *objects, "-o", str(program), *(f for f in flags if f[:2] not in ("-I", "-D")), "-lm"],
                          capture_output=True, text=True)
    if made.returncode:
        say(f"{name}: does not link:\n{made.stderr}")
        return None
    return program


def library_programs(build, kind):
    """(name, command) of tern first, then of each library that is there; kind: gemm or ops"""
    folder = ROOT / "build/bench/peers"
    build = build.resolve()

    def flags(include, where, library):
        return [f"-I{include}", f"-L{where}", f"-l{library}", f"-Wl,-rpath,{where}"]

    table = [
        ("tern", ("gemm_tern.c", "ops_tern.c"), build / "libtern.so", flags(ROOT / "include", build, "tern"), "make"),
        ("openblas", ("gemm_blas.c",), LIBRARIES / "openblas-openmp/libopenblas.so",
         flags(HEADERS / "openblas-openmp", LIBRARIES / "openblas-openmp", "openblas"), "libopenblas-openmp-dev"),
        ("blis", ("gemm_blas.c",), LIBRARIES / "blis-openmp/libblis.so",
         ["-DPEER_BLIS", *flags(HEADERS / "blis-openmp", LIBRARIES / "blis-openmp", "blis")], "libblis-openmp-dev"),
        ("onednn", ("gemm_onednn.cpp", "ops_onednn.cpp"), LIBRARIES / "libdnnl.so", flags(HEADERS, LIBRARIES, "dnnl"), "libdnnl-dev"),
    ]
    for name, sources, needs, options, package in table:
        source = next((s for s in sources if s.startswith(kind)), None)
        if source is None:
            continue
        if not needs.exists():
            say(f"{name}: left out: {needs} is not there ({package})")
            continue
        program = compile_program(folder, f"{kind}_{name}", ["peer.c", "peer_expected.c", source], options)
        if program:
            yield name, [str(program)]


def python_programs(pythons, programs):
    folder = ROOT / "build/bench/peers"
    for python in pythons:
        for name, program, imports in programs:
            there = pathlib.Path(python).exists() and subprocess.run([python, "-c", f"import {imports}"],
                                                                     capture_output=True).returncode == 0
            if there:
                yield name, [python, str(HERE / program), *([str(folder)] if name == "llama.cpp" else [])]
            else:
                say(f"{name}: left out with {python}, which cannot import {imports}")


# ---- contestants ---------------------------------------------------------------------------------------------------------

class Gone(Exception):
    """a program that ended, or said what nobody asked"""


class Contestant:
    """a program that speaks as peer.c does"""

    def __init__(self, command, threads):
        # Whoever takes memory for each result gets what it gave back, and not fresh pages from the system.
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), BLIS_NUM_THREADS=str(threads),
                           OPENBLAS_NUM_THREADS=str(threads), MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(1 << 40),
                           MALLOC_TOP_PAD_=str(256 << 20))
        self.process = subprocess.Popen([*command, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)
        self.gone = False
        self.name = self.read("name", None)

    def read(self, *expected):
        line = self.process.stdout.readline().strip()
        word, _, rest = line.partition(" ")
        if word in expected:
            return rest if word != "none" else None
        raise Gone(f"{getattr(self, 'name', self.process.args[0])}: answered '{line}', expected {expected[0]}")

    def ask(self, line, *expected):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read(*expected)

    def open(self, case):
        """whether it offers the case; who ends here, having told why, is left out from now on"""
        if self.gone:
            return False
        try:
            return self.ask(f"case {case}", "ready", "none") is not None
        except Gone:
            self.gone = True
            say(f"{self.name}: left out from here on, its set-up of '{case}' failed")
            return False

    def run(self, ms):
        return [float(t) for t in self.ask(f"run {ms}", "times").split()]

    def ceilings(self):
        answer = self.ask("ceilings", "ceilings", "none")
        return [float(x) for x in answer.split()] if answer else None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class TernBench:
    """`tern bench` of a shape, started anew for each round"""

    def __init__(self, build, threads, shape):
        self.tern, self.threads, self.shape = build / "tern", threads, shape
        self.name = "tern " + subprocess.run([self.tern, "--version"], capture_output=True, text=True,
                                             check=True).stdout.split()[1]

    def open(self, case):
        self.what, self.dtype, self.tokens = case.split()
        return True

    def run(self, ms):
        made = subprocess.run([self.tern, "bench", "--shape", self.shape, "--dtype", self.dtype, "--contexts", self.tokens,
                               "--threads", str(self.threads), "--runs", str(max(2, int(ms / 50))), "--no-ceilings", "--json",
                               "--quiet"], capture_output=True, text=True)
        if made.returncode:
            raise Gone(f"{self.name}: `tern bench` ended with {made.returncode}: {made.stderr.strip()}")
        return [1e-3 * t for r in json.loads(made.stdout)["rows"] if r["what"] == self.what for t in r["sorted_ms"]]

    def close(self):
        pass


# ---- rounds --------------------------------------------------------------------------------------------------------------

def compete(contestants, case, rounds, ms):
    """{name: times and ratios} of those who offer the case; contestants[0] is tern"""
    here = [c for c in contestants if c.open(case)]
    if contestants[0] not in here:
        sys.exit(f"{contestants[0].name} does not offer '{case}'")
    times = {c.name: [] for c in here}
    for i in range(rounds):
        for c in here if i % 2 == 0 else reversed(here):
            times[c.name].append(statistics.median(c.run(ms)))
            time.sleep(0.002)  # threads that still wait in a loop for more work are asleep by then
    tern = times[here[0].name]
    results = {}
    for c in here:
        own = times[c.name]
        ratios = sorted(x / y for x, y in zip(own, tern))
        results[c.name] = {"seconds": statistics.median(own), "low": min(own), "high": max(own),
                           "ratio": statistics.median(ratios), "ratio_low": ratios[0], "ratio_high": ratios[-1]}
    return results


def show(title, results):
    names = list(results)
    print(f"{title}  {names[0]} {1e6 * results[names[0]]['seconds']:.0f} us", end="")
    for name in names[1:]:
        r = results[name]
        print(f" | {name} {r['ratio']:.2f} ({r['ratio_low']:.2f}..{r['ratio_high']:.2f})", end="")
    print(flush=True)


def contestants_for(kind, scripts, options):
    programs = [*library_programs(options.build, kind), *python_programs(options.python, scripts)]
    if not programs or programs[0][0] != "tern":
        raise Gone("tern: its program is not there, and ratios are over its time")
    return [Contestant(command, options.threads) for name, command in chosen(programs, options)]


def chosen(programs, options):
    """tern, and of the others those that --only names, or all"""
    kept = [(name, command) for name, command in programs if name == "tern" or not options.only or name in options.only]
    if all(name == "tern" for name, _ in kept) and options.only != ["tern"]:
        say(f"tern is alone: here is no {', '.join(n for n in options.only if n != 'tern') or 'other'} for this work")
    return kept


def gemm(options, answer):
    contestants = contestants_for("gemm", PRODUCTS, options)
    for dtype in options.dtype:
        for shape in options.shape:
            k, n = map(int, shape.split("x"))
            ceilings = contestants[0].ceilings()
            for m in options.rows:
                results = compete(contestants, f"gemm {dtype} {k} {n} {m}", options.rounds, options.ms)
                row = {"dtype": dtype, "k": k, "n": n, "m": m, "threads": options.threads, "results": results}
                if ceilings:
                    row |= {"ops_ceiling": ceilings[DTYPES.index(dtype)], "read_ceiling": ceilings[3]}
                keep(options.out, answer, "gemm", row, ("dtype", "k", "n", "m", "threads"))
                show(f"{dtype} {shape:>10} M={m:<3}", results)
    for c in contestants:
        c.close()


def operator_cases(work, options):
    """(operator, what it is called with, K, N, M): what peer.h says"""
    if work == "rows":
        return [(op, f"{m} x {n}", 0, n, m) for op in options.op for m, n in ROW_SHAPES]
    if work == "attention":
        return [("attention", f"{m} {'causal' if causal else 'full'}", causal, HEADS, m) for m, causal in ATTENTION]
    return [("mlp", f"{h} / {inner}, {m} rows", h, inner, m) for h, inner in MLP_SHAPES for m in options.rows]


def operators(work, options, answer):
    contestants = contestants_for("ops", OPERATORS, options)
    for dtype in [d for d in options.dtype if d != "int8"]:
        for op, size, k, n, m in operator_cases(work, options):
            results = compete(contestants, f"{op} {dtype} {k} {n} {m}", options.rounds, options.ms)
            row = {"op": op, "dtype": dtype, "size": size, "threads": options.threads, "results": results}
            keep(options.out, answer, "ops", row, ("op", "dtype", "size", "threads"))
            show(f"{dtype} {op:10} {size:>14}", results)
    for c in contestants:
        c.close()


def model(work, options, answer):
    shape, what, tokens, peer = MODELS[work]
    others = chosen(list(python_programs(options.python, [peer])), options)
    contestants = [TernBench(options.build, options.threads, shape), *(Contestant(command, options.threads) for _, command in others)]
    for dtype in options.dtype:
        results = compete(contestants, f"{what} {dtype} {tokens}", options.rounds, 8 * options.ms)
        row = {"shape": shape, "what": what, "dtype": dtype, "tokens": tokens, "threads": options.threads, "results": results}
        keep(options.out, answer, "models", row, ("shape", "what", "dtype", "tokens", "threads"))
        show(f"{dtype} {shape} {what} {tokens}", results)
    for c in contestants:
        c.close()


def keep(path, answer, work, row, key):
    """in place of what was measured of the same before; written at once, so that it is there whatever happens next, and whole"""
    rows = answer.setdefault(work, [])
    rows[:] = [r for r in rows if any(r[k] != row[k] for k in key)] + [row]
    text = json.dumps(answer, indent=1) + "\n"
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.rename(path)
    except OSError as reason:
        raise Gone(f"{path}: cannot be written: {reason.strerror}") from reason


def read(path):
    """(what the file holds, whether it is an answer); nothing of a file that is not there, or of a device"""
    if not path.is_file():
        return {}, True
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(answer, dict):
            return answer, True
        reason = f"expected an object, got {type(answer).__name__}"
    except OSError as error:
        raise Gone(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        reason = error
    say(f"{path} is not JSON: left out ({reason})")
    return {}, False


# ---- options -------------------------------------------------------------------------------------------------------------

def words(text):
    return [w for w in text.split(",") if w]


def some_of(choices, none=False):
    """words that are all among the choices; none: or no word"""
    def parse(text):
        given = words(text)
        for word in given:
            if word not in choices:
                raise argparse.ArgumentTypeError(f"'{word}' is none of {', '.join(choices)}")
        if not given and not none:
            raise argparse.ArgumentTypeError(f"got no word, expected some of {', '.join(choices)}")
        return given
    return parse


def number(kind, least, most, what=""):
    """least to most"""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"got '{text}', expected {least} to {most}{what}")
        return value
    return parse


def row_counts(text):
    if not words(text):
        raise argparse.ArgumentTypeError(f"got no number, expected some of 1 to {ROWS_MAX}")
    return [number(int, 1, ROWS_MAX)(w) for w in words(text)]


def matrices(text):
    for word in words(text):
        k, by, n = word.partition("x")
        if not (by and k.isdecimal() and n.isdecimal()):
            raise argparse.ArgumentTypeError(f"got '{word}', expected KxN, as in 768x3072")
        if int(k) > K_MAX or not MATRIX[0] <= int(k) * int(n) <= MATRIX[1]:
            raise argparse.ArgumentTypeError(f"got '{word}', expected K up to {K_MAX}, and {MATRIX[0]} to {MATRIX[1]} numbers: of smaller ones "
                                             "too many copies would have to be made")
    if not words(text):
        raise argparse.ArgumentTypeError("got no matrix, expected KxN, as in 768x3072")
    return words(text)


def ready(options):
    """Gone with what is missing before anything is measured: tern's own programs, and a folder for the answer"""
    needs = ["libtern.so"] * any(w not in MODELS for w in options.work) + ["tern"] * any(w in MODELS for w in options.work)
    for name in needs:
        if not (options.build / name).exists():
            raise Gone(f"tern is not built, and ratios are over its time: {options.build / name} is not there (make, or --build FOLDER)")
    if options.work:
        ours = ROOT / "build/bench/peers"  # of programs and their models, below the answer's usual one
        if options.out.is_dir() or not (options.out.parent.is_dir() or options.out.parent == ours.parent):
            raise Gone(f"--out: got {options.out}, expected a file in a folder that is there")
        ours.mkdir(parents=True, exist_ok=True)


def summary(answer):
    """for each dtype and number of rows: the median of the ratios over all matrices, the least and the most of them"""
    cases = sorted({(r["threads"], r["dtype"], r["m"]) for r in answer.get("gemm", [])})
    for threads, dtype, m in cases:
        rows = [r for r in answer["gemm"] if (r["threads"], r["dtype"], r["m"]) == (threads, dtype, m)]
        print(f"{threads} thread(s), {dtype}, M = {m}, {len(rows)} matrices:", end="")
        for name in dict.fromkeys(n for r in rows for n in r["results"] if not n.startswith("tern ")):
            ratios = sorted(r["results"][name]["ratio"] for r in rows if name in r["results"])
            print(f" {name} {statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})", end="")
        print()


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    processors = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=number(int, 1, processors, ", the processors that there are"), default=1,
                        help="of each contestant, up to one for each processor")
    parser.add_argument("--work", type=some_of(WORKS, none=True), default=["gemm", "rows", "attention", "mlp", "bert"],
                        help="of " + ", ".join(WORKS) + "; the first four and bert")
    parser.add_argument("--dtype", type=some_of(DTYPES), default=DTYPES)
    parser.add_argument("--shape", type=matrices, default=words(SHAPES))
    parser.add_argument("--rows", type=row_counts, default=[1, 16, 128])
    parser.add_argument("--op", type=some_of(words(ROW_OPS)), default=words(ROW_OPS), help="of --work rows")
    parser.add_argument("--only", type=some_of(NAMES), default=[], help="tern beside these alone, of " + ", ".join(NAMES[1:]))
    parser.add_argument("--rounds", type=number(int, 1, ROUNDS_MAX), default=5)
    parser.add_argument("--ms", type=number(float, 0, MS_MAX), default=25, help="of each contestant in each round, one run at least")
    parser.add_argument("--python", action="append", help="an interpreter with torch, onnxruntime or llama_cpp; the system's, and "
                                                          "build/peers/bin/python where there is one")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench/peers.json")
    options = parser.parse_args()
    ready(options)
    if not options.python:
        venv = ROOT / "build/peers/bin/python"
        options.python = ["/usr/bin/python3", *([str(venv)] if venv.exists() else [])]
        if not venv.exists():
            say(f"{venv.relative_to(ROOT)} is not there: newer versions of torch and onnxruntime are left out (make peers-setup)")
    answer, whole = read(options.out)
    if not whole and options.work:
        kept = options.out.with_name(options.out.name + ".broken")
        options.out.rename(kept)
        say(f"it is {kept} from here on")
    answer["processor"] = processor()
    for work in options.work:
        if work == "gemm":
            gemm(options, answer)
        elif work in ("rows", "attention", "mlp"):
            operators(work, options, answer)
        else:
            model(work, options, answer)
    summary(answer)
    return 0 if whole else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Gone as gone:
        sys.exit(str(gone))
