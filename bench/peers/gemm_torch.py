"""torch's linear as a user calls it: weights [n, k] and no compilation; int8 is its dynamically quantised Linear, where it has one.

    gemm_torch.py THREADS
"""
import functools
import sys
import warnings

import peer  # before what may not be there: it says what starts this program

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def name():
    return f"torch {torch.__version__.split('+')[0]}"


def quantised(layer):
    """None where this build has no int8 engine"""
    engines = [e for e in torch.backends.quantized.supported_engines if e != "none"]
    if not engines:
        return None
    for engine in ("x86", "onednn", "fbgemm"):
        if engine in engines:
            torch.backends.quantized.engine = engine
            break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions announce another interface
        return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear})[0]


@functools.lru_cache(maxsize=1)
def weights(dtype, k, n):
    """copies of the weight, ready to be used with any number of rows; None where the dtype is not offered"""
    plain = torch.from_numpy(peer.gemm_weight(k, n).T.copy())
    copies = range(peer.gemm_copies(dtype, k, n))
    if dtype != "int8":
        return [plain.to(DTYPES[dtype], copy=True) for _ in copies]
    layer = torch.nn.Linear(k, n, bias=False)
    layer.weight.data = plain
    layers = [quantised(layer) for _ in copies]
    return None if layers[0] is None else layers


def open_case(words):
    dtype, (k, n, m) = words[1], map(int, words[2:])
    copies = weights(dtype, k, n)
    if copies is None:
        return None
    x = peer.gemm_rows(k, m)
    if dtype == "int8":
        rows = torch.from_numpy(x)

        def run(copy):
            return copies[copy](rows)
    else:
        rows = torch.from_numpy(x).to(DTYPES[dtype])

        def run(copy):
            return torch.nn.functional.linear(rows, copies[copy])
    # In int8 the scales are its own choice, and results near: half a step of 255 in rows and of 127 in weights, each.
    peer.gemm_check(name(), x, peer.gemm_weight(k, n), run(0).float().numpy(), dtype)
    return run, len(copies)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(False)
    peer.serve(name(), open_case)
