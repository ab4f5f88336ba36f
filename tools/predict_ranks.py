#!/usr/bin/env python3
"""How many tokens a second a model gives on 1 to 64 ranks, predicted from its sizes and from a few figures of the machines.

    tools/predict_ranks.py MODEL [options]                                  a directory, as tern info reads it
    tools/predict_ranks.py --size LAYERS,HIDDEN,FEED_FORWARD,HEADS,KV_HEADS,VOCABULARY [--gated] [--parallel] [options]

Single tokens of one sequence.  A rank reads its share of the weights, and of keys and values; sums of the hidden state are made between ranks
twice a layer (once where attention and feed-forward stand side by side) and behind the embedding, scores are gathered, and one message says
what to do.  docs/distributed.md has the formulas, and what they were held against.
"""
import argparse
import json
import math
import subprocess
import sys

MESSAGE = 256         # bytes of what rank 0 says of a step (src/comm/message.h)
DIRECT_SHARED = 16384  # floats of all ranks up to which a sum takes one wait (src/comm/mpi/mpi_window.c)
DIRECT_NETWORK = 131072  # bytes of all ranks up to which a sum takes one message's time (src/comm/mpi/mpi_network.c)


def from_info(tern, path, dtype):
    try:
        answer = subprocess.run([tern, "info", path, "--dtype", dtype, "--json"], capture_output=True, text=True, check=False)
    except OSError as error:
        sys.exit(f"cannot run {tern}: {error.strerror} (--tern says where it is)")
    if answer.returncode:
        sys.exit(answer.stderr.strip())
    all_of_it = json.loads(answer.stdout)
    m, memory = all_of_it["model"], all_of_it["memory"]
    if "token_bytes" not in memory:
        sys.exit(f"{path}: is for the task '{m['task']}', expected a model that generates")
    return {"L": m["layers"], "H": m["hidden_size"], "h": m["heads"], "G": m["kv_heads"], "E": m["head_dim"], "V": m["vocabulary"],
            "bytes": memory["weight_bytes"] / m["parameters"], "read": memory["token_bytes"], "kv": memory["kv_bytes"] / m["context"],
            "parallel": m["parallel_layers"]}


def from_size(text, gated, parallel, bytes_each):
    L, H, I, h, G, V = (int(part) for part in text.split(","))
    E = H // h
    layer = H * (h + 2 * G) * E + h * E * H + (3 if gated else 2) * H * I
    return {"L": L, "H": H, "h": h, "G": G, "E": E, "V": V, "bytes": bytes_each, "read": (L * layer + V * H) * bytes_each,
            "kv": 2 * 4 * L * G * E, "parallel": parallel}


def share(m, n):
    """bytes that the rank with most of them reads for a token, and of keys and values for each position before it"""
    attention = min(m["read"], m["L"] * m["H"] * m["E"] * 2 * (m["h"] + m["G"]) * m["bytes"])
    # Heads are dealt out with the keys and values that they read; where those are fewer than ranks, several ranks have the same ones.
    group, kv_heads = m["h"] // m["G"], math.ceil(m["G"] / n)
    heads = kv_heads * group if n <= m["G"] else math.ceil(group / (n // m["G"]))
    own = attention * (heads + kv_heads) / (m["h"] + m["G"])
    return own + (m["read"] - attention) / n, m["kv"] * kv_heads / m["G"]


def one_sum(a, floats, n, hosts):
    """seconds"""
    data = 4 * floats
    if hosts == 1:
        if n == 2 or n * floats <= DIRECT_SHARED:
            return a.wait_us * 1e-6 + (n - 1) * data / (a.copy_gbs * 1e9)
        return 2 * a.wait_us * 1e-6 + 2 * (n - 1) / n * data / (a.copy_gbs * 1e9)
    rate = a.network_gbs * 1e9 / min(n, a.ranks_per_host)
    messages = (n - 1) * a.message_us * 1e-6
    if n * data <= DIRECT_NETWORK:
        return a.latency_us * 1e-6 + messages + (n - 1) * data / rate
    return 2 * (a.latency_us * 1e-6 + messages) + 2 * (n - 1) / n * data / rate


def predict(a, m, n):
    """(bytes of weights a token, seconds of reading, seconds between ranks)"""
    hosts = math.ceil(n / a.ranks_per_host)
    on_host = min(n, a.ranks_per_host)
    weights, kv = share(m, n)
    read = (weights + kv * a.context) / (min(a.rank_gbs, a.host_gbs / on_host) * 1e9)
    if n == 1:
        return weights, read, 0
    sums = (1 if m["parallel"] else 2) * m["L"] + 1
    between = sums * one_sum(a, m["H"] + 1, n, hosts)
    scores = 4 * m["V"] * (n - 1) / n
    if hosts == 1:
        between += 2 * a.wait_us * 1e-6 + scores / (a.copy_gbs * 1e9)
    else:
        between += a.latency_us * 1e-6 + (n - 1) * a.message_us * 1e-6 + scores / (a.network_gbs * 1e9 / on_host)
        between += math.ceil(math.log2(n)) * (a.latency_us * 1e-6 + MESSAGE / (a.network_gbs * 1e9))
    return weights, read, between


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", nargs="?", metavar="MODEL")
    p.add_argument("--tern", default="tern", help="the command; tern")
    p.add_argument("--size", help="instead of MODEL; FEED_FORWARD of a mixture of experts: of those together that a token goes to")
    p.add_argument("--gated", action="store_true", help="with --size: three matrices in a feed-forward")
    p.add_argument("--parallel", action="store_true", help="with --size: attention and feed-forward stand side by side")
    p.add_argument("--bytes", type=float, help="with --size: of a weight: 4 fp32, 2 bf16 and fp16, 1 int8; 2")
    p.add_argument("--dtype", help="with MODEL: as of tern run; auto")
    p.add_argument("--context", type=int, default=128, help="tokens before; 128")
    p.add_argument("--ranks", default="1,2,4,8,16,32,64", help="1,2,4,8,16,32,64")
    p.add_argument("--ranks-per-host", type=int, default=1)
    p.add_argument("--rank-gbs", type=float, required=True, help="GB/s that one rank alone reads: tern bench --threads T, its line with \"read\"")
    p.add_argument("--host-gbs", type=float, help="GB/s that all ranks of a host read together; as one rank does")
    p.add_argument("--wait-us", type=float, default=0.5, help="within a host: a wait for all others, microseconds; 0.5")
    p.add_argument("--copy-gbs", type=float, default=15, help="within a host: what a rank reads of another's; 15")
    p.add_argument("--latency-us", type=float, default=20, help="between hosts: of a message, as MPI sees it; 20 (Ethernet), 2 (InfiniBand)")
    p.add_argument("--message-us", type=float, default=1, help="between hosts: work for each message; 1")
    p.add_argument("--network-gbs", type=float, default=1.2, help="GB/s of a host's network; 1.2 (10 Gbit Ethernet)")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if bool(a.model) == bool(a.size):
        p.error("expected either MODEL or --size")
    a.host_gbs = a.host_gbs or a.rank_gbs
    if a.model and (a.gated or a.parallel or a.bytes):
        p.error("--gated, --parallel and --bytes are for --size: MODEL says so itself")
    if a.size and a.dtype:
        p.error("--dtype is for MODEL, expected --bytes with --size")
    m = from_info(a.tern, a.model, a.dtype or "auto") if a.model else from_size(a.size, a.gated, a.parallel, a.bytes or 2)
    rows = []
    for n in (int(text) for text in a.ranks.split(",")):
        weights, read, between = predict(a, m, n)
        rows.append({"ranks": n, "hosts": math.ceil(n / a.ranks_per_host), "weight_mb": weights * 1e-6, "read_ms": read * 1e3,
                     "between_ms": between * 1e3, "tokens_per_s": 1 / (read + between)})
    if a.json:
        print(json.dumps(rows))
        return
    print("ranks  hosts  MB of weights  reading ms  between ranks ms  tokens/s")
    for row in rows:
        print(f"{row['ranks']:5d}{row['hosts']:7d}{row['weight_mb']:15.1f}{row['read_ms']:12.3f}{row['between_ms']:18.3f}{row['tokens_per_s']:10.1f}")


if __name__ == "__main__":
    main()
