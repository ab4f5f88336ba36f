"""Cases of what works on rows and elements, of products without config, and of mixtures of experts."""
import itertools
import math

from ops_case import Case, around_one, vector, weight
from ops_inputs import integers, listed, mask, normal, routed, uniform


def bias_sizes():
    """Upstream's B, S, C, then tails, one value, no rows and a row beyond 16384."""
    yield from [((b, s), n) for b, s, n in itertools.product((1, 2), (1, 128, 255), (512, 1232, 4096))]
    yield from [((1, 1), 1), ((3,), 3), ((0, 2), 5), ((2, 2), 17), ((7,), 31), ((1, 1), 16385)]


def v2_sizes():
    return [((1,), 4096), ((37,), 2048), ((112,), 14432), ((1024,), 6144)]


def bias_add():
    for lead, n in bias_sizes():
        yield Case({}, dict(input=normal(*lead, n), bias=vector(n)))


def bias_relu():
    for lead, n in itertools.chain(bias_sizes(), v2_sizes()):
        yield Case({}, dict(input=normal(*lead, n), bias=vector(n)))


def bias_gelu():
    for i, (lead, n) in enumerate(itertools.chain(bias_sizes(), [((223,), 4096)])):
        form = (None, "erf", None, "sigmoid", "tanh")[i % 5]
        yield Case(dict(gelu=form) if form else {}, dict(input=normal(*lead, n), bias=vector(n)))


def bias_residual():
    for i, (lead, n) in enumerate(bias_sizes()):
        t = dict(input=normal(*lead, n), residual=normal(*lead, n))
        if i % 4 != 3:
            t["bias"] = vector(n)
        yield Case({}, t)


def gelu():
    for i, (lead, n) in enumerate(bias_sizes()):
        form = (None, "tanh", None, "sigmoid", "erf")[i % 5]
        yield Case(dict(gelu=form) if form else {}, dict(input=normal(*lead, n)))


def gated_activation():
    """v1: [up | gate], GELU (erf) and SiLU.  v2: gate and up in turns, GELU (tanh), SiLU, ReLU."""
    for i, (lead, n) in enumerate(bias_sizes()):
        c = dict(activation=("gelu", "silu")[i % 2])
        t = dict(input=normal(*lead, 2 * n))
        if i % 4 != 3:
            t["bias"] = vector(2 * n)
        yield Case(c, t)
    for i, (lead, n) in enumerate([((1372,), 16384), ((2, 743), 22016), ((832,), 4096), ((832,), 4096), ((832,), 4096), ((1,), 48152),
                                   ((5,), 127 * 2), ((3,), 2), ((0,), 8)]):
        c = dict(activation=("gelu_tanh", "gelu_tanh", "relu", "silu", "gelu_tanh", "gelu_sigmoid")[i % 6], gate_layout="interleaved")
        t = dict(input=normal(*lead, n))
        if i > 1:
            t["bias"] = vector(n)
        yield Case(c, t)


def vector_add():
    for i, (lead, n) in enumerate(bias_sizes()):
        yield Case(dict(gamma=(-0.75, 2.5)[i // 3 % 2]) if i % 3 else {}, dict(a=normal(*lead, n), b=normal(*lead, n)))


def moe_res_matmul():
    for hidden, n in itertools.product((16, 64), (1, 4)):
        yield Case({}, dict(residual=normal(n, hidden * n, hidden), coef=normal(2 * hidden, dtype="V"), experts=normal(n, hidden * n, hidden)))
    for lead, n in (((37,), 1232), ((1,), 1), ((0,), 5), ((3, 5), 33), ((2,), 16385)):
        yield Case({}, dict(residual=normal(*lead, n), coef=uniform(*lead, 2, dtype="V"), experts=normal(*lead, n)))
        yield Case({}, dict(residual=normal(*lead, n), coef=normal(2 * n, dtype="V"), experts=normal(*lead, n)))


def residual_add():
    """Upstream's sizes; its eight flags take turns, two for each size.  Upstream allows fp16 (3e-2, 4e-3)."""
    flags = list(itertools.product((True, False), (True, False), (1, 2)))
    for i, ((lead, n), half) in enumerate(itertools.product(bias_sizes(), (0, 3))):
        after, pre, mp = flags[(i + half) % 8]
        t = dict(hidden=normal(*lead, n), residual=normal(*lead, n))
        if i % 5 != 4:
            t["attention_output"] = normal(*lead, n)
        if i % 3 != 2:
            t["final_bias"] = vector(n)
        if i % 3 != 1:
            t["attention_bias"] = vector(n)
        if i % 4 == 3:
            t["residual_add"] = normal(*lead, n)
        yield Case(dict(mlp_after_attn=after, pre_layer_norm=pre, mp_size=mp), t, depth=5)


def residual_add_bias():
    """The kernel function: all five tensors, one rounding; its four branches."""
    flags = list(itertools.product((True, False), (True, False), (True, False), (1, 2)))
    for i, (lead, n) in enumerate(bias_sizes()):
        after, pre, add, mp = flags[(5 * i) % 16]
        t = {name: normal(*lead, n) for name in ("hidden", "residual", "attention_output")}
        t.update(attention_bias=vector(n), final_bias=vector(n))
        yield Case(dict(mlp_after_attn=after, pre_norm=pre, add_attn_bias=add, mp_size=mp), t, depth=5)


def norm_sizes():
    yield from [((b, s), n) for b, s, n in itertools.product((1, 32), (1, 128), (384, 512, 768, 1024, 2048, 8192, 14432))]
    yield from v2_sizes()
    yield from [((883,), 1024), ((0,), 4), ((1,), 1), ((3,), 2), ((5,), 31), ((6,), 33), ((4,), 16385)]


def layer_norm():
    for i, (lead, n) in enumerate(norm_sizes()):
        t = dict(input=normal(*lead, n), gamma=around_one(n))
        if i % 4 != 3:
            t["beta"] = uniform(n, dtype="V")
        yield Case(dict(epsilon=1e-5), t, depth=2 * n)


def layer_norm_residual():
    for i, (lead, n) in enumerate(norm_sizes()):
        t = dict(input=normal(*lead, n), residual=normal(*lead, n), gamma=around_one(n))
        if i % 4 != 3:
            t["beta"] = uniform(n, dtype="V")
        if i % 3:
            t["input_bias"] = vector(n)
        yield Case(dict(epsilon=1e-5), t, depth=2 * n)
    for residual, bias in itertools.product((False, True), (False, True)):
        t = dict(input=normal(4, 4, scale=0.5, offset=-2.3), gamma=around_one(4), beta=uniform(4, dtype="V"))
        t["residual"] = normal(4, 4, scale=0.5, offset=-2.3) if residual else normal(4, 4, scale=0.0)
        if bias:
            t["input_bias"] = uniform(4, dtype="V")
        yield Case(dict(epsilon=1e-5), t, depth=8)


def rms_norm():
    for lead, n in norm_sizes():
        yield Case(dict(epsilon=1e-5), dict(input=normal(*lead, n), gamma=around_one(n)), depth=n)


def pre_rms_norm():
    for lead, n in norm_sizes():
        t = dict(input=normal(*lead, n), residual=normal(*lead, n), gamma=around_one(n))
        yield Case(dict(epsilon=1e-5), t, depth=n)


# ---- products without weights ------------------------------------------------------------------------------------------


def matmul():
    acts = ("", "relu", "leaky_relu", "gelu", "sigmoid")
    shapes = [((1, 128), 768, 3072), ((1, 128), 3072, 768), ((37,), 1024, 1024), ((16,), 768, 2304), ((2, 1), 1024, 1024)]
    shapes += [((0,), 5, 7), ((1,), 1, 1), ((2,), 3, 31), ((7,), 17, 32), ((8,), 33, 33), ((2, 5), 100, 65), ((3,), 1, 129),
               ((65,), 255, 1), ((13,), 16385, 5), ((4,), 64, 17)]
    for i, (lead, k, n) in enumerate(shapes):
        c = dict(activation=acts[i % 5], transposed_mode=i % 2 == 1)
        t = dict(a=normal(*lead, k), b=weight(c, k, n, k**-0.5))
        if i % 3:
            t["bias"] = vector(n)
        yield Case(c, t, depth=k, flop=2 * math.prod(lead) * k * n)


def fp16_matmul():
    """The same by the name that it has at fp16."""
    for i, (m, k, n) in enumerate(((5, 33, 17), (1, 64, 128), (16, 768, 96))):
        t = dict(a=normal(m, k), b=weight({}, k, n, k**-0.5), bias=vector(n))
        yield Case(dict(activation=("gelu", "relu", "")[i]), t, depth=k, flop=2 * m * k * n, only=("fp16",))


def matmul_4d():
    """Upstream's M and K with its N and B, h in turns.  Upstream allows (5e-2, 2e-3) at fp16; its default is tighter in what grows."""
    outer = list(itertools.product((1, 2), (1, 2, 16)))
    columns = (1, 2, 8, 512)
    for i, (m, k) in enumerate(itertools.product((1, 7, 8, 128), (2, 5, 16, 128))):
        for j in range(2):
            (b, h), n = outer[(i + 3 * j) % 6], columns[(i + i // 4 + 2 * j) % 4]
            yield Case({}, dict(a=normal(b, h, m, k), b=normal(b, h, k, n, scale=k**-0.5)), depth=k, flop=2 * b * h * m * k * n)
    for b, h, m, k, n in ((1, 1, 1, 1, 1), (2, 3, 0, 4, 5), (1, 3, 5, 16385, 3)):
        yield Case({}, dict(a=normal(b, h, m, k), b=normal(b, h, k, n, scale=k**-0.5)), depth=k)


def einsum_sec_sm_ecm():
    for s, e, c, m in ((16, 4, 4, 64), (128, 8, 16, 256), (37, 3, 5, 33), (1, 1, 1, 1), (0, 2, 3, 4), (7, 5, 1, 31), (300, 2, 150, 512)):
        yield Case({}, dict(q=uniform(s, e, c, scale=0.5, offset=0.5), w=normal(s, m)), depth=s, flop=2 * s * e * c * m)


# ---- moves -------------------------------------------------------------------------------------------------------------


def pad_transform():
    sizes = [(1, 77, 2, 40), (2, 128, 3, 64), (1, 77, 8, 80), (1, 1, 1, 1), (2, 5, 3, 7), (0, 3, 1, 4), (1, 9, 2, 160), (3, 2, 2, 31), (2, 129, 1, 128)]
    for i, ((b, s, h, e), flash) in enumerate(itertools.product(sizes, (True, False))):
        t = dict(query=normal(b, s, h * e))
        if i % 5:
            t.update(key=normal(b, s + 1, h * e), value=normal(b, s + 1, h * e))
        yield Case(dict(num_heads=h, do_flash_attn=flash), t, exact=tuple(n + "_output" for n in t))


def embedding():
    for i, (vocab, n) in enumerate(((1024, 1024), (32000, 64), (50304, 48), (1, 1), (7, 33), (3, 16385))):
        for j, lead in enumerate(((1,), (37,), (2, 64), (0,), (5, 3))[:5 if i == 4 else 2 if n > 4096 else 3]):
            kind = ("int32", "int64")[(i + j) % 2]
            t = dict(ids=integers(*lead, count=vocab, dtype=kind), table=normal(vocab, n))
            c = {}
            if (i + j) % 3 == 1:
                c["offset"] = 2
                t.update(position_table=normal(90, n), position_ids=integers(*lead, count=88, dtype=kind))
            yield Case(c, t, exact=() if c else ("output",))


def logits_gather():
    lists = ([256], [1], [33, 8, 1, 128, 5], [1, 1, 1, 1], [614, 38, 142, 17])
    for i, (lengths, n) in enumerate(itertools.product(lists, (1024, 4096, 6144, 6784, 33))):
        if (i + i // 5) % 2 == 0 or n == 33:
            yield Case({}, dict(input=normal(sum(lengths) + i % 2, n), lengths=listed(lengths, ("int32", "int64")[i % 2])), exact=("output",))


ROUTES = [(13, 64, 1), (278, 64, 1), (1977, 64, 1), (13, 8, 2), (278, 8, 2), (1977, 8, 2), (72, 8, 2), (1, 1, 1), (5, 7, 3), (9, 4, 4), (0, 3, 2)]


def top_k_gating():
    sizes = [(n, 8, 2) for n in (1, 17, 32, 89, 433)] + [(1, 16, 1), (17, 16, 1), (32, 128, 1), (89, 128, 1), (433, 128, 1)]
    sizes += [(128, 32, 1), (512, 64, 1), (433, 2, 1), (37, 8, 4), (37, 8, 8), (5, 7, 3), (1, 1, 1), (0, 4, 2), (3, 1000, 6)]
    for i, (tokens, count, k) in enumerate(sizes):
        # Logits of upstream's third list are all negative, those of its fourth all alike: ties go to the lower expert.
        logits = uniform(tokens, count, offset=-1.0) if i == 10 else normal(tokens, count, scale=0.0) if i == 11 else normal(tokens, count)
        t = dict(logits=logits)
        if i % 3 == 1:
            t["padding"] = mask(tokens, every=5, rare=1, usual=0)
        yield Case(dict(k=k), t, depth=count, outputs=dict(scores="fp32", experts="int32", slots="int32", counts="int32"),
                   exact=("experts", "slots", "counts"))


def moe_scatter():
    for i, route in enumerate(ROUTES):
        t = dict(input=normal(route[0], (64, 33, 128)[i % 3]))
        for kind in ("experts", "slots", "counts"):
            t[kind] = routed(kind, route[0], route[2], route[1], padding=0 if i % 2 else 7)
        yield Case({}, t, exact=("output", "mapped_slots", "row_ends"), outputs=dict(mapped_slots="int32", row_ends="int64"), follows=False)


def moe_gather():
    for i, (tokens, count, k) in enumerate(ROUTES):
        t = dict(input=normal(tokens * k, (64, 33, 4096)[i % 3]), scores=uniform(tokens, k, scale=0.5, offset=0.5, dtype="fp32"))
        t["mapped_slots"] = routed("mapped_slots", tokens, k, count, padding=0 if i % 2 else 7, of="mapped_slots")
        yield Case(dict(normalise=True) if i in (6, 3, 8) else {}, t, depth=2 * k)


def moe_gemm():
    """Upstream allows (1e-2, 1e-2), and bf16 (1e-1, 1e-1)."""
    limit = dict(fp16=(1e-2, 1e-2), bf16=(1e-1, 1e-1))
    acts = ("", "gelu", "silu", "relu", "gelu_tanh")
    single = [(13, 2048, 2048), (256, 1024, 4096), (278, 5120, 2048), (893, 5120, 2560), (37, 512, 384), (1, 1, 1), (5, 33, 31), (0, 4, 8)]
    for i, (m, k, n) in enumerate(single):
        c = dict(activation=acts[i % 5], transposed_mode=i % 2 == 1)
        t = dict(input=normal(m, k, scale=0.1), weight=weight(c, k, n, k**-0.5, (1,)), row_ends=listed([m], ("int64", "int32")[i % 2]))
        if i % 3:
            t["bias"] = normal(1, n, dtype="V")
        yield Case(c, t, depth=k, flop=2 * m * k * n, limit=limit)
    # 64 experts, some of them without a row; upstream's widths for the full grid, and narrow ones.
    for i, ((k, n), most) in enumerate(itertools.product(((80, 32), (5120, 2048)), (1, 4, 16, 64, 128))):
        c = dict(activation=acts[1 + i % 3])
        ends = list(itertools.accumulate((most * (7 * e % 11)) // 10 for e in range(64)))
        t = dict(input=normal(ends[-1], k, scale=0.1), weight=weight(c, k, n, k**-0.5, (64,)) | dict(key=f"moe_gemm/{k}x{n}"),
                 row_ends=listed(ends, "int64"), bias=normal(64, n, dtype="V"))
        # The matrices alone are 671 million numbers.
        yield Case(c, t, depth=k, flop=2 * ends[-1] * k * n, limit=limit, only=("fp16", "bf16") if k > 80 else Case.only)


ROWS = dict(bias_add=bias_add, bias_relu=bias_relu, bias_gelu=bias_gelu, bias_residual=bias_residual, gelu=gelu,
            gated_activation=gated_activation, vector_add=vector_add, moe_res_matmul=moe_res_matmul, residual_add=residual_add,
            residual_add_bias=residual_add_bias, layer_norm=layer_norm, layer_norm_residual=layer_norm_residual, rms_norm=rms_norm,
            pre_rms_norm=pre_rms_norm, matmul=matmul, fp16_matmul=fp16_matmul, matmul_4d=matmul_4d, einsum_sec_sm_ecm=einsum_sec_sm_ecm,
            pad_transform=pad_transform, embedding=embedding, logits_gather=logits_gather, top_k_gating=top_k_gating,
            moe_scatter=moe_scatter, moe_gather=moe_gather, moe_gemm=moe_gemm)
