"""torch's linear as a user calls it: weights [n, k] and no compilation; int8 is its dynamically quantised Linear, where it has one.

    gemm_torch.py THREADS
"""
import sys
import warnings

import torch

import peer

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


def open_case(words):
    dtype, (k, n, m) = words[0], map(int, words[1:])
    x, w = peer.gemm_values(k, n, m)
    copies = peer.gemm_copies(dtype, k, n)
    if dtype == "int8":
        layers = []
        rows = torch.from_numpy(x)
        for _ in range(copies):
            layer = torch.nn.Linear(k, n, bias=False)
            layer.weight.data = torch.from_numpy(w.T.copy())
            layer = quantised(layer)
            if layer is None:
                return None
            layers.append(layer)
        # Scales are its own choice, so results are near: 2 steps of 255 in a row's values and 1 of 127 in weights.
        peer.gemm_check(name(), x, w, layers[0](rows).numpy(), 0.05)
        return (lambda copy: layers[copy](rows)), copies
    rows = torch.from_numpy(x).to(DTYPES[dtype])
    weight = torch.from_numpy(w.T.copy()).to(DTYPES[dtype])
    weights = [weight.clone() for _ in range(copies)]
    peer.gemm_check(name(), x, w, torch.nn.functional.linear(rows, weights[0]).float().numpy(),
                    1 / 256 if dtype == "bf16" else 0)
    return (lambda copy: torch.nn.functional.linear(rows, weights[copy])), copies


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(False)
    peer.serve(name(), open_case)
