"""The operators' formulas in float64, with torch where torch has them.

Written from docs/operators.md and the definitions that it cites; nothing here is tern's.  A formula takes the settings (c) and the
inputs (t), which are the numbers that storage leaves of them, and gives the outputs.  Arithmetic is float64 throughout: what
tern rounds on the way is the tolerance's business, but for activation_quant=row, whose rows of codes are exact by definition.
"""
import math

import torch

F = torch.nn.functional


def single(x):
    """A parameter that is an fp32 number."""
    return float(torch.tensor(float(x), dtype=torch.float32))


def gelu(x, form):
    if form == "sigmoid":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if form == "erf" else "tanh")


ACTIVATIONS = {
    "": lambda x: x, "relu": torch.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.01), "sigmoid": torch.sigmoid,
    "silu": F.silu, "gelu": lambda x: gelu(x, "erf"), "gelu_tanh": lambda x: gelu(x, "tanh"),
    "gelu_sigmoid": lambda x: gelu(x, "sigmoid"),
}


def eps(c):
    return single(c.get("epsilon", 1e-12))


def rms(x, gamma, c):
    return F.rms_norm(x, x.shape[-1:], gamma, eps(c))


def norm(x, c, t):
    if c.get("norm_type", "LayerNorm") == "RMSNorm":
        return rms(x, t["gamma"], c)
    return F.layer_norm(x, x.shape[-1:], t["gamma"], t.get("beta"), eps(c))


# ---- products with weights ---------------------------------------------------------------------------------------------


def row_codes(x):
    """Rows as s8 with one scale each: rint(x (127 / max)), max / 127, every step rounded to fp32."""
    x = x.float()
    top = x.abs().amax(-1, keepdim=True)
    small = top < 2.0**-100
    top = torch.where(small, 127.0, top)
    q = torch.round(x * (torch.tensor(127.0) / top))
    return torch.where(small, 0.0, q).double(), (top / 127.0).double()


def product(x, name, c, t):
    w = t[name].mT if c.get("transposed_mode") else t[name]
    if c["dtype"] != "int8" or name + "_scale" not in t:
        return x @ w.double()
    scale = t[name + "_scale"]
    scale = scale.repeat_interleave(w.shape[-1] // scale.shape[-1], -1)
    if c.get("activation_quant") == "row":
        q, row = row_codes(x)
        return (q @ w) * row * scale
    return (x @ w) * scale


def plus(t, name):
    return t.get(name, 0.0)


def padded_head(size):
    """Width of a head of the reference's padded form."""
    return size if size % 64 == 0 or size > 128 else 32 if size < 32 else 64 if size < 64 else 128


def linear(c, t):
    y = product(t["input"], "weight", c, t) + plus(t, "bias")
    if c.get("do_flash_attn"):  # [3, B, h, S, E'], padded with zeros
        batch, rows, width = y.shape
        size = width // 3 // c["num_heads"]
        y = y.reshape(batch, rows, 3, c["num_heads"], size).permute(2, 0, 3, 1, 4)
        y = F.pad(y, (0, padded_head(size) - size))
    return {"output": y}


def qkv_gemm(c, t):
    z = norm(t["input"], c, t)
    return {"output": product(z, "weight", c, t) + plus(t, "bias"), "norm": z}


def act(x, c):
    kind = c.get("mlp_act_func_type", "GELU")
    if kind == "ReLU":
        return torch.relu(x)
    if kind == "GELU":
        return gelu(x, c.get("gelu", "tanh"))
    up, gate = x.chunk(2, -1)
    return up * (F.silu(gate) if kind == "GATED_SILU" else gelu(gate, c.get("gelu", "erf")))


def mlp_gemm(c, t):
    root = c.get("norm_type") == "RMSNorm"
    if not c.get("mlp_after_attn", True) and not root:
        s = t["residual"]
    else:
        s = t["input"] + t["residual"] + plus(t, "input_bias")
    z = norm(s, c, t)
    y = product(act(product(z, "weight", c, t) + plus(t, "bias"), c), "weight_out", c, t)
    return {"output": y, "residual_add": s if root else z}


def gelu_gemm(c, t):
    u = product(t["input"], "weight", c, t) + plus(t, "bias")
    return {"output": product(gelu(u, c.get("gelu", "tanh")), "weight_out", c, t)}


# ---- element by element, norms -----------------------------------------------------------------------------------------


def residual_add(c, t):
    mp = c.get("mp_size", 1)
    x, r, a = t["hidden"], t["residual"], plus(t, "attention_output")
    ba, bf = plus(t, "attention_bias"), plus(t, "final_bias")
    if not c.get("mlp_after_attn", True):
        return {"output": x + a + (r + bf + ba) / mp}
    if c.get("pre_layer_norm", True):
        return {"output": x + (r + bf + a + ba) / mp}
    return {"output": x + (t.get("residual_add", r) + bf) / mp}


def residual_add_bias(c, t):
    mp, x, r, a = c.get("mp_size", 1), t["hidden"], t["residual"], t["attention_output"]
    ba, bf = t["attention_bias"], t["final_bias"]
    if c.get("mlp_after_attn", True):
        return {"output": x + ((r + bf + a + ba) / mp if c.get("pre_norm", True) else r + bf)}
    return {"output": x + a + (r + bf + (ba if c.get("add_attn_bias") else 0.0)) / mp}


def bias_add(c, t):
    return {"output": t["input"] + t["bias"]}


def bias_gelu(c, t):
    return {"output": gelu(t["input"] + t["bias"], c.get("gelu", "tanh"))}


def bias_relu(c, t):
    return {"output": torch.relu(t["input"] + t["bias"])}


def bias_residual(c, t):
    return {"output": t["input"] + t["residual"] + plus(t, "bias")}


def gelu_alone(c, t):
    return {"output": gelu(t["input"], c.get("gelu", "erf"))}


def gated_activation(c, t):
    x = t["input"] + plus(t, "bias")
    if c.get("gate_layout") == "interleaved":
        gate, up = x[..., 0::2], x[..., 1::2]
    else:
        up, gate = x.chunk(2, -1)
    return {"output": up * ACTIVATIONS[c["activation"]](gate)}


def vector_add(c, t):
    return {"output": single(c.get("gamma", 1)) * t["a"] + t["b"]}


def moe_res_matmul(c, t):
    coef, size = t["coef"], t["residual"].shape[-1]
    if coef.dim() == 1:
        return {"output": t["residual"] * coef[:size] + t["experts"] * coef[size:]}
    return {"output": t["experts"] * coef[..., :1] + t["residual"] * coef[..., 1:]}


def layer_norm(c, t):
    return {"output": F.layer_norm(t["input"], t["input"].shape[-1:], t["gamma"], t.get("beta"), eps(c))}


def layer_norm_residual(c, t):
    z = t["input"] + plus(t, "input_bias") + t["residual"]
    return {"output": F.layer_norm(z, z.shape[-1:], t["gamma"], t.get("beta"), eps(c)), "sum": z}


def rms_norm(c, t):
    return {"output": rms(t["input"], t["gamma"], c)}


def pre_rms_norm(c, t):
    z = t["input"] + t["residual"]
    return {"output": rms(z, t["gamma"], c), "residual": z}


# ---- attention ---------------------------------------------------------------------------------------------------------


def visible(rows, columns, causal, window):
    """[rows, columns] of bool; row i stands at columns - rows + i."""
    at = torch.arange(rows)[:, None] + (columns - rows)
    j = torch.arange(columns)[None, :]
    see = torch.ones(rows, columns, dtype=torch.bool)
    if causal:
        see &= j <= at
    if window:
        see &= j > at - window
    return see


def masked_softmax(s, see, given=None, c=None):
    """softmax over what is visible; rows that see nothing are zeros.  Integer masks hide, others are added."""
    if given is not None and not given.is_floating_point():
        see = see & ((given != 0) == c.get("invert_mask", True))
    elif given is not None:
        s = s + given
    s = s.masked_fill(~see, -math.inf)
    return torch.nan_to_num(torch.softmax(s, -1), nan=0.0)


def softmax(c, t):
    s = t["scores"] * single(c.get("layer_scale", 1))
    rows, columns = s.shape[-2:]
    if "alibi" in t:
        first = c.get("head_offset", 0)
        slopes = t["alibi"][first:first + s.shape[1]]
        s = s + slopes[:, None, None] * torch.arange(columns, dtype=torch.float64)
    see = visible(rows, columns, c.get("triangular"), c.get("window_size", 256) if c.get("local_attention") else 0)
    return {"output": masked_softmax(s, see, t.get("mask"), c)}


def rotated(x, at, size, theta, neighbours):
    """x [.., heads, E], at [..]: the first `size` channels turn by at theta^(-2m / size)."""
    angle = at.double()[..., None] * theta ** (-2 * torch.arange(size // 2, dtype=torch.float64) / size)
    cos, sin = angle.cos()[..., None, :], angle.sin()[..., None, :]
    a, b = (x[..., 0:size:2], x[..., 1:size:2]) if neighbours else (x[..., :size // 2], x[..., size // 2:size])
    u, v = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack([u, v], -1).flatten(-2) if neighbours else torch.cat([u, v], -1)
    return torch.cat([turned, x[..., size:]], -1)


def rotary(c, t):
    how = c["rotary_dim"], single(c.get("rope_theta", 10000)), not c.get("rotate_half", False)
    return {"output": rotated(t["input"], t["position_ids"], *how)}


def kv_copy(c, t):
    x = t["input"]
    batch, rows = x.shape[:2]
    past = t["past_key"].shape[2] if "past_key" in t else 0
    at = t.get("position_ids", torch.arange(past, past + rows)).expand(batch, rows)
    total = past if "position_ids" in t and past else past + rows
    new = [x[:, :, 0], x[:, :, 1]]
    if c.get("rotary_dim", -1) > 0:
        new[0] = rotated(new[0], at, c["rotary_dim"], single(c.get("rope_theta", 10000)), not c.get("rotate_half", False))
    out = {}
    for name, y in zip(("key", "value"), new):
        to = torch.zeros(batch, total, *y.shape[2:], dtype=torch.float64)
        if past:
            to[:, :past] = t["past_" + name].transpose(1, 2)
        for b in range(batch):
            to[b, at[b]] = y[b]
        out[name] = to.transpose(1, 2)
    return out


def softmax_context(c, t):
    h, width = c["heads"], c["hidden_size"] // c["heads"]
    g, wide = c.get("num_kv", h), c.get("v_head_dim", c["hidden_size"] // c["heads"])
    x = t["qkv"]
    batch, rows, _ = x.shape
    if c.get("bigscience_bloom"):  # q, k and v of each head side by side
        q, k, v = x.reshape(batch, rows, h, -1).split([width, width, wide], 3)
    else:
        q, k, v = x.split([h * width, g * width, g * wide], 2)
        q, k, v = (y.reshape(batch, rows, -1, n) for y, n in ((q, width), (k, width), (v, wide)))
    past = t["past_key"].shape[2] if "past_key" in t else 0
    if c.get("rotary_dim", -1) > 0:
        at = t["position_ids"] if "position_ids" in t else torch.arange(past, past + rows).expand(batch, rows)
        how = c["rotary_dim"], single(c.get("rope_theta", 10000)), not c.get("rotate_half", False)
        q, k = rotated(q, at, *how), rotated(k, at, *how)
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    if past:
        k, v = torch.cat([t["past_key"], k], 2), torch.cat([t["past_value"], v], 2)
    columns = past + rows
    scale = 1.0
    if "scale" in c:
        scale = single(c["scale"])
    elif c.get("bigscience_bloom"):
        scale = width**-0.5
    elif c.get("scale_attention", True):
        scale = 1 / width if c.get("use_mup") else width**-0.5
        if c.get("scale_attn_by_inverse_layer_idx"):
            scale /= c["layer_id"] + 1
    s = q @ k.repeat_interleave(h // g, 1).transpose(-1, -2) * scale
    if c.get("softcap"):
        s = single(c["softcap"]) * torch.tanh(s / single(c["softcap"]))
    if "alibi" in t:
        s = s + t["alibi"][:, None, None] * torch.arange(columns, dtype=torch.float64)
    see = visible(rows, columns, c.get("triangular_masking", True), c.get("window_size", 256) if c.get("local_attention") else 0)
    p = masked_softmax(s, see, t.get("mask"), c)
    y = (p @ v.repeat_interleave(h // g, 1)).transpose(1, 2).reshape(batch, rows, h * wide)
    return {"output": y, "key": k, "value": v}


def attend(q, k, v, c, t):
    """q [B, h, S, E], k and v [B, G, T, ..]"""
    times = q.shape[1] // k.shape[1]
    s = q @ k.repeat_interleave(times, 1).transpose(-1, -2) * single(c["scale"])
    p = masked_softmax(s, visible(*s.shape[-2:], c.get("causal", False), 0), t.get("mask"), c)
    return p @ v.repeat_interleave(times, 1)


def heads_of(qkv, h):
    batch, rows, width = qkv.shape
    return qkv.reshape(batch, rows, 3, h, width // 3 // h).permute(2, 0, 3, 1, 4)


def packed_attention(c, t):
    q, k, v = heads_of(t["qkv"], c["num_heads"])
    return {"output": attend(q, k, v, c, t).transpose(1, 2).flatten(2)}


def unpacked_attention(c, t):
    return {"output": attend(t["q"], t["k"], t["v"], c, t)}


# ---- products without weights ------------------------------------------------------------------------------------------


def matmul(c, t):
    return {"output": ACTIVATIONS[c.get("activation", "")](product(t["a"], "b", c, t) + plus(t, "bias"))}


def matmul_4d(c, t):
    return {"output": t["a"] @ t["b"]}


def score_4d_matmul(c, t):
    q, k, _ = heads_of(t["qkv"], t["qkv"].shape[-1] // 3 // c["head_size"])
    s = q @ k.transpose(-1, -2) * single(c["scale"])
    if c.get("causal"):
        s = s.masked_fill(~visible(*s.shape[-2:], True, 0), -math.inf)
    return {"output": s}


def context_4d_matmul(c, t):
    v = heads_of(t["qkv"], t["prob"].shape[1])[2]
    return {"output": (t["prob"] @ v).transpose(1, 2).flatten(2)}


def einsum_sec_sm_ecm(c, t):
    return {"output": torch.einsum("sec,sm->ecm", t["q"], t["w"])}


# ---- moves, mixture of experts -----------------------------------------------------------------------------------------


def pad_transform(c, t):
    """With do_flash_attn heads grow to 32, 64 or 128 channels, keys and values to a multiple of 128 rows."""
    h, flash, out = c["num_heads"], c["do_flash_attn"], {}
    for name in (n for n in ("query", "key", "value") if n in t):
        y = t[name].reshape(*t[name].shape[:2], h, t[name].shape[2] // h).transpose(1, 2)
        wide = padded_head(y.shape[3]) if flash else y.shape[3]
        rows = -(-y.shape[2] // 128) * 128 if flash and name != "query" else y.shape[2]
        out[name + "_output"] = F.pad(y, (0, wide - y.shape[3], 0, rows - y.shape[2]))
    return out


def top_k_gating(c, t):
    logits, k = t["logits"].flatten(0, -2), c["k"]
    tokens, count = logits.shape
    chosen = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :k]
    scores = torch.softmax(logits, -1).gather(1, chosen)
    if "padding" in t:
        none = t["padding"] != 0
        chosen, scores = chosen.masked_fill(none[:, None], -1), scores.masked_fill(none[:, None], 0.0)
    used = torch.zeros(count, dtype=torch.int64)
    slots = torch.full((tokens, k), -1)
    for i in range(tokens):
        for j in range(k):
            e = int(chosen[i, j])
            if e >= 0:
                slots[i, j] = used[e]
                used[e] += 1
    return {"scores": scores, "experts": chosen, "slots": slots, "counts": used}


def moe_scatter(c, t):
    x, ends = t["input"], t["counts"].cumsum(0)
    first = ends - t["counts"]
    mapped = torch.where(t["experts"] >= 0, first[t["experts"].clamp(min=0)] + t["slots"], -1)
    y = torch.full((int(ends[-1]), x.shape[-1]), math.nan, dtype=torch.float64)
    for j in range(mapped.shape[1]):
        there = mapped[:, j] >= 0
        y[mapped[there, j]] = x[there]
    return {"output": y, "mapped_slots": mapped, "row_ends": ends}


def moe_gemm(c, t):
    x, ends = t["input"], [0] + t["row_ends"].tolist()
    parts = []
    for e in range(len(ends) - 1):
        own = {name: t[name][e] for name in ("weight", "weight_scale", "bias") if name in t}
        y = product(x[ends[e]:ends[e + 1]], "weight", c, own) + plus(own, "bias")
        parts.append(ACTIVATIONS[c.get("activation", "")](y))
    return {"output": torch.cat(parts)}


def moe_gather(c, t):
    slots, scores = t["mapped_slots"], t["scores"]
    there = slots >= 0
    scores = torch.where(there, scores, 0.0)
    if c.get("normalise"):
        total = scores.sum(1, keepdim=True)
        scores = torch.where(total != 0, scores / total, 0.0)
    y = sum(scores[:, j, None] * t["input"][slots[:, j].clamp(min=0)] for j in range(slots.shape[1]))
    return {"output": y.masked_fill(~there.any(1)[:, None], math.nan)}


def embedding(c, t):
    y = t["table"][t["ids"]]
    if "position_table" in t:
        y = y + t["position_table"][t["position_ids"] + c.get("offset", 0)]
    return {"output": y}


def logits_gather(c, t):
    return {"output": t["input"][t["lengths"].cumsum(0) - 1]}


FORMULAS = dict(
    linear=linear, vector_matmul=linear, qkv_gemm=qkv_gemm, mlp_gemm=mlp_gemm, gelu_gemm=gelu_gemm, residual_add=residual_add,
    softmax=softmax, softmax_context=softmax_context, bias_add=bias_add, bias_gelu=bias_gelu, bias_relu=bias_relu,
    bias_residual=bias_residual, gelu=gelu_alone, gated_activation=gated_activation, vector_add=vector_add,
    residual_add_bias=residual_add_bias, moe_res_matmul=moe_res_matmul, layer_norm=layer_norm, layer_norm_residual=layer_norm_residual, rms_norm=rms_norm,
    pre_rms_norm=pre_rms_norm, rotary=rotary, kv_copy=kv_copy, packed_attention=packed_attention, unpacked_attention=unpacked_attention,
    matmul=matmul, fp16_matmul=matmul, matmul_4d=matmul_4d, score_4d_matmul=score_4d_matmul, context_4d_matmul=context_4d_matmul,
    einsum_sec_sm_ecm=einsum_sec_sm_ecm, pad_transform=pad_transform, top_k_gating=top_k_gating, moe_scatter=moe_scatter,
    moe_gemm=moe_gemm, moe_gather=moe_gather, embedding=embedding, logits_gather=logits_gather)
