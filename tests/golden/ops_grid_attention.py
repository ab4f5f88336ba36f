"""Cases of attention: softmax, cached and plain attention, its products and rotation."""
import itertools

from ops_case import Case
from ops_inputs import integers, listed, mask, normal, uniform

HIDDEN = -10000.0  # what callers of the reference add to hide a key


def softmax():
    for i, (b, s, n) in enumerate(itertools.product((1, 2), (1, 128, 255, 1232), (512, 4096))):
        yield Case({}, dict(scores=normal(b, 1, s, n)), depth=n)
    extra = [((1, 1, 1, 1), {}, None, 0), ((2, 3, 5, 7), dict(triangular=True), normal(2, 1, 5, 7, dtype="M"), 3),
             ((2, 3, 5, 7), dict(layer_scale=0.3), normal(1, 3, 1, 7, dtype="M"), 0),
             ((1, 4, 9, 33), dict(head_offset=2), normal(1, 1, 9, 33, dtype="M"), 6),
             ((1, 2, 40, 40), dict(triangular=True, local_attention=True, window_size=8), None, 0),
             ((1, 2, 3, 300), dict(triangular=True, local_attention=True, window_size=256), None, 2),
             ((1, 1, 3, 9000), dict(triangular=True), None, 0), ((1, 1, 2, 20000), {}, None, 0), ((0, 2, 3, 4), {}, None, 0),
             ((1, 12, 16, 16), dict(layer_scale=0.3, triangular=True), None, 0),
             ((1, 12, 128, 128), dict(layer_scale=0.3), mask(1, 1, 1, 128, rare=HIDDEN, usual=0, dtype="M"), 0),
             ((2, 3, 5, 37), {}, mask(2, 1, 1, 37), 0), ((2, 3, 5, 37), dict(triangular=True), mask(2, 3, 5, 37), 0),
             ((2, 3, 5, 37), dict(invert_mask=False), mask(2, 1, 5, 37, rare=1, usual=0), 0),
             ((2, 3, 5, 37), {}, mask(1, 3, 1, 37, dtype="int64"), 0),
             ((2, 3, 5, 37), dict(invert_mask=False), mask(2, 1, 1, 37, rare=1, usual=0, dtype="int32"), 0),
             ((2, 4, 6, 6), dict(triangular=True), mask(2, 1, 1, 6, every=2), 4)]
    for shape, c, given, slopes in extra:
        t = dict(scores=normal(*shape))
        if given:
            t["mask"] = given
        if slopes:
            t["alibi"] = uniform(slopes, scale=0.25, dtype="V")
        yield Case(c, t, depth=shape[-1])


def attention(b, s, h, width, g=None, past=0, given=None, alibi=False, positions=None, chunks=None, sequences=None, **c):
    g, wide = g or h, c.get("v_head_dim", width)
    c = dict(hidden_size=h * width, heads=h, num_kv=g, **c)
    t = dict(qkv=normal(b, s, (h + g) * width + g * wide, scale=0.5))
    if past:
        t.update(past_key=normal(b, g, past, width, scale=0.5), past_value=normal(b, g, past, wide, scale=0.5))
    if given:
        t["mask"] = given
    if positions:
        t["position_ids"] = positions
    if alibi:
        t["alibi"] = uniform(h, scale=0.125, dtype="V")
    turned = c.get("rotary_dim", -1) > 0
    n = past + s
    cache = dict(chunks=chunks) if chunks else dict(sequences=sequences) if sequences else {}
    return Case(c, t, depth=n + 2 * width, products=dict(output=3 if turned else 1), stores=dict(output=1 if turned else 0),
                size=dict(output=0.5), weightless=True, exact=("value",), flop=2 * b * h * s * n * (width + wide), cache=cache,
                wanted=() if past or positions else ("output",))


def softmax_context():
    """Upstream's prompts, head sizes, groups and rotary shapes."""
    for s, width, causal in itertools.product((16, 128), (64, 128), (True, False)):
        yield attention(1, s, 12, width, triangular_masking=causal, sequences=[s])
    for s, width in itertools.product((2, 33, 65, 128, 256, 2037), (64, 128)):
        yield attention(1, s, 4, width, scale=1.0)
    for lengths in ((128, 128), (192, 38), (514, 713), (83, 312, 610)):
        yield attention(1, sum(lengths), 2, 64, sequences=list(lengths))
    for seen, s in ((34, 1), (40, 43), (144, 1), (128, 64), (228, 1), (628, 332)):
        yield attention(1, seen + s, 4, 64, chunks=[seen, s], rotary_dim=64, rotate_half=True)
        yield attention(1, s, 4, 64, past=seen, rotary_dim=64, rotate_half=True)
    for h, g in ((32, 8), (64, 16), (40, 8)):
        yield attention(1, 38, h, 64, g)
        yield attention(1, 9, h, 128, g, chunks=[8, 1], rotary_dim=128, rotate_half=True)
        yield attention(1, 2, h, 64, g, past=7)
    for width, half in itertools.product((64, 80, 96), (True, False)):
        yield attention(1, 33, 4, width, rotary_dim=64, rotate_half=half, sequences=[33])
        yield attention(2, 17, 2, width, rotary_dim=width, rotate_half=half, rope_theta=500000.0)
    for h in (64, 32, 16, 8):
        yield attention(1, 8, h, 1024 // h, rotary_dim=min(32, 1024 // h), rope_theta=2.0)
    yield attention(1, 1, 1, 1)
    yield attention(2, 3, 1, 2, rotary_dim=2)
    yield attention(3, 5, 3, 7)
    yield attention(2, 300, 2, 16, local_attention=True, window_size=256)
    yield attention(1, 40, 2, 16, local_attention=True, window_size=8, chunks=[39, 1])
    yield attention(1, 5, 2, 16, local_attention=True, window_size=8, past=39)
    yield attention(1, 40, 3, 24, alibi=True, sequences=[40])
    yield attention(2, 4, 3, 24, alibi=True, past=11)
    yield attention(1, 20, 2, 16, use_mup=True, sequences=[20])
    yield attention(1, 20, 2, 16, scale_attention=False, sequences=[20])
    yield attention(1, 20, 2, 16, scale_attn_by_inverse_layer_idx=True, layer_id=3, sequences=[20])
    yield attention(1, 20, 2, 16, scale=0.3)
    yield attention(1, 20, 2, 16, softcap=0.5)
    yield attention(2, 9, 4, 16, 2, v_head_dim=24)
    yield attention(2, 9, 4, 16, 2, v_head_dim=5, past=6)
    yield attention(2, 9, 2, 16, rotary_dim=16, positions=integers(2, 9, count=50, dtype="int64"))
    yield attention(2, 3, 2, 16, past=8, rotary_dim=8, rotate_half=True, positions=integers(2, 3, count=5000, dtype="int32"))
    for given in (normal(1, 1, 1, 20, dtype="M"), normal(2, 1, 20, 20, dtype="M"), normal(2, 2, 20, 20, dtype="M"),
                  normal(20, 20, dtype="M"), mask(2, 1, 1, 20, rare=HIDDEN, usual=0, dtype="M"), mask(2, 1, 1, 20),
                  mask(20, 20), mask(2, 2, 20, 20), mask(2, 1, 20, 20, dtype="int64"), mask(1, 2, 1, 20, dtype="int32")):
        for causal in (True, False):
            yield attention(2, 20, 2, 16, given=given, triangular_masking=causal)
    yield attention(2, 20, 2, 16, given=mask(2, 1, 1, 20, rare=1, usual=0), invert_mask=False)
    yield attention(2, 20, 2, 16, given=mask(2, 2, 20, 20, rare=1, usual=0, dtype="int64"), invert_mask=False)
    yield attention(2, 5, 2, 16, past=15, given=mask(2, 1, 5, 20))
    yield attention(1, 9000, 1, 2, chunks=[8999, 1])
    # BLOOM's order, with its slopes; its scale is that of the width, whatever else is set.
    bloom = dict(bigscience_bloom=True)
    yield attention(2, 19, 4, 64, alibi=True, **bloom)
    yield attention(2, 5, 4, 16, alibi=True, past=15, given=mask(2, 1, 5, 20), **bloom)
    yield attention(1, 40, 3, 24, chunks=[33, 6, 1], use_mup=True, scale_attn_by_inverse_layer_idx=True, layer_id=3, **bloom)
    yield attention(1, 30, 2, 10, sequences=[7, 23], rotary_dim=6, rotate_half=True, scale_attention=False, **bloom)
    yield attention(2, 9, 4, 16, v_head_dim=24, **bloom)
    yield attention(2, 3, 3, 7, v_head_dim=5, past=4, triangular_masking=False, **bloom)
    yield attention(1, 1, 1, 1, **bloom)


def plain(op, b, h, s, width, g=None, columns=None, wide=None, scale=0.3, given=None, causal=False, **c):
    c = dict(scale=scale, causal=causal, **c)
    if op == "packed":
        c["num_heads"] = h
        t = dict(qkv=normal(b, s, 3 * h * width, scale=0.5))
    else:
        columns, wide, g = columns or s, wide or width, g or h
        t = dict(q=normal(b, h, s, width, scale=0.5), k=normal(b, g, columns, width, scale=0.5), v=normal(b, g, columns, wide, scale=0.5))
    if given:
        t["mask"] = given
    columns = columns or s
    return Case(c, t, depth=columns + 2 * width, products=1, weightless=True, size=dict(output=0.5), flop=4 * b * h * s * columns * width)


def plain_attention(op):
    hide = dict(rare=-65504.0, usual=0, dtype="M")
    for s, width, causal in itertools.product((16, 128), (64, 128), (False, True)):
        yield plain(op, 1, 12, s, width, causal=causal)
        yield plain(op, 1, 12, s, width, causal=causal, given=mask(1, 1, 1, s, every=16, **hide))
    yield plain(op, 2, 3, 37, 24, given=mask(2, 1, 1, 37, **hide))
    yield plain(op, 2, 3, 7, 5, given=normal(2, 3, 7, 7, dtype="M"), causal=True)
    yield plain(op, 2, 3, 7, 5, given=normal(7, 7, dtype="M"))
    yield plain(op, 2, 3, 7, 5, given=mask(2, 1, 1, 7), causal=True)
    yield plain(op, 2, 3, 7, 5, given=mask(2, 3, 7, 7, dtype="int64"))
    yield plain(op, 2, 3, 7, 5, given=mask(7, 7, rare=1, usual=0), invert_mask=False)
    yield plain(op, 1, 1, 1, 1, scale=1.0)
    yield plain(op, 2, 1, 0, 8)
    yield plain(op, 1, 2, 300, 80, scale=80**-0.5, causal=True)
    if op == "unpacked":
        yield plain(op, 2, 6, 5, 16, g=2, columns=9, wide=24, causal=True)
        yield plain(op, 1, 4, 3, 64, g=1, columns=100, scale=0.125)
        yield plain(op, 1, 1, 2, 4, columns=9000, scale=0.5)


def packed_attention():
    yield from plain_attention("packed")


def unpacked_attention():
    yield from plain_attention("unpacked")


def score_4d_matmul():
    for s, width, causal in itertools.product((16, 128), (64, 128), (False, True)):
        yield Case(dict(head_size=width, scale=0.3, causal=causal), dict(qkv=normal(1, s, 36 * width, scale=0.5)), depth=width,
                   flop=24 * s * s * width)
    for b, s, h, width in ((2, 1, 1, 1), (2, 7, 3, 5), (1, 33, 2, 31), (0, 3, 1, 4)):
        yield Case(dict(head_size=width, scale=-1.5, causal=False), dict(qkv=normal(b, s, 3 * h * width)), depth=width)


def context_4d_matmul():
    for s, width in itertools.product((16, 128), (64, 128)):
        yield Case(dict(head_size=width), dict(prob=uniform(1, 12, s, s, scale=0.5 / s, offset=0.5 / s),
                                               qkv=normal(1, s, 36 * width, scale=0.5)), depth=s, flop=24 * s * s * width)
    for b, s, h, width in ((2, 1, 1, 1), (2, 7, 3, 5), (1, 33, 2, 31), (0, 3, 1, 4)):
        yield Case(dict(head_size=width), dict(prob=normal(b, h, s, s), qkv=normal(b, s, 3 * h * width)), depth=s)


def rotary():
    for h, half in itertools.product((64, 32, 16, 8), (False, True)):
        yield Case(dict(rotary_dim=32, rope_theta=2.0, rotate_half=half),
                   dict(input=normal(1, 8, h, 1024 // h if h < 64 else 32), position_ids=listed(range(8, 16), shape=[1, 8])), depth=2)
    for s, seen, width in ((1, 0, 64), (17, 0, 64), (33, 15, 80), (1, 63, 96), (128, 0, 64), (177, 0, 80), (169, 8, 96), (117, 88, 64)):
        for half in (False, True):
            yield Case(dict(rotary_dim=64, rotate_half=half),
                       dict(input=normal(s, 4, width), position_ids=listed(range(seen, seen + s), "int64")), depth=2)
    for rows, h, width, size in ((0, 2, 4, 4), (1, 1, 2, 2), (3, 5, 7, 6), (5, 1, 512, 512), (9, 3, 40, 10)):
        yield Case(dict(rotary_dim=size, rope_theta=500000.0, rotate_half=rows % 3 == 0),
                   dict(input=normal(rows, h, width), position_ids=integers(rows, count=100000)), depth=2)


def kv_copy():
    """Upstream's lengths and head sizes, plain and turned; then places in any order, among those of the past."""
    lengths = ((1, 0), (17, 0), (33, 8), (63, 1), (128, 0), (177, 0), (169, 8), (117, 88))
    for i, ((s, seen), j) in enumerate(itertools.product(lengths, range(2))):
        width = (64, 80, 96, 128)[(i // 2 + 2 * j) % 4]
        c = dict(rotary_dim=64, rotate_half=i // 2 % 2 == 1) if j else {}
        t = dict(input=normal(1, s, 2, 4, width))
        if seen:
            t.update(past_key=normal(1, 4, seen, width), past_value=normal(1, 4, seen, width))
        yield Case(c, t, depth=2, exact=("value",) if c else ("key", "value"))
    for b, s, g, width, past, places in ((2, 3, 1, 1, 5, [4, 0, 2, 1, 3, 0]), (2, 2, 3, 10, 4, [3, 1, 0, 2]), (1, 4, 2, 7, 0, [2, 0, 3, 1])):
        t = dict(input=normal(b, s, 2, g, width), position_ids=listed(places, "int64", [b, s]))
        if past:
            t.update(past_key=normal(b, g, past, width), past_value=normal(b, g, past, width))
        yield Case(dict(rotary_dim=6, rope_theta=500000.0) if width == 10 else {}, t, depth=2,
                   exact=("value",) if width == 10 else ("key", "value"))
    yield Case({}, dict(input=normal(2, 0, 2, 3, 4)), exact=("key", "value"))


ATTENTION = dict(kv_copy=kv_copy, softmax=softmax, softmax_context=softmax_context, packed_attention=packed_attention,
                 unpacked_attention=unpacked_attention, score_4d_matmul=score_4d_matmul, context_4d_matmul=context_4d_matmul,
                 rotary=rotary)
