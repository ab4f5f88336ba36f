/* quantize_weight.c: quantised tensors as packed weights.
 *
 * What decides is along which elements of K a scale holds.  8-bit symmetric codes with one scale per output channel are the int8
 * weights that weight.c makes too, scale applied to finished sums.  Where scales change at the same places of K in all columns, a row
 * of 32 scales serves a run of steps; that covers groups along K, shards merged along K, and long flat groups.  Other groups (along N,
 * or flat ones that end within rows) keep their scales as they are, and each step of a panel looks its scales up. */
#include "ops/quantize_weight.h"

#include "ops/quantize_spans.h"

#include <string.h>

/* A row of scales where a tensor has fewer: worth it from so many elements on, 1/16 byte for each of them. */
#define LONG_RUN 64

/* The scale of element (k, o), how many elements from there on along K share it, and how many along N. */
struct reach {
    size_t group, along_in, along_out;
};

static struct reach reach_at(const tern_quant_layout *l, bool transposed, size_t k, size_t o)
{
    const struct tern_quant_place p = tern_quant_place_at(l, transposed ? o : k, transposed ? k : o);

    return (struct reach){ p.group, transposed ? p.cols : p.rows, transposed ? p.rows : p.cols };
}

static size_t greatest_divisor(size_t a, size_t b)
{
    while (b) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The largest number that divides K and all places of K where some column changes its scale.  0: too short for rows of scales. */
static size_t find_run(const tern_quant_layout *l, bool transposed, size_t in, size_t out)
{
    const size_t size = (size_t)l->group_size;
    const size_t least = l->bits == 8 && l->symmetric ? TERN_ROWS_Q8_PART : LONG_RUN;
    size_t run = in;

    for (size_t o = 0; o < out; o++)
        for (size_t k = reach_at(l, transposed, 0, o).along_in; k < in; k += reach_at(l, transposed, k, o).along_in) {
            run = greatest_divisor(run, k);
            if (run < size && run < least)
                return 0;
        }
    return run == in || run >= size || run >= least ? run : 0;
}

/* ---- packing ---- */

struct pack {
    const struct tern_qtensor *q;
    bool transposed;
    struct tern_weight *weight;
    size_t part, n_parts; /* of K, each beginning with a step of its own */
    float *scale, *minimum;
    int32_t *start; /* or NULL */
};

static void pack_bytes(const struct tern_kernels *kernels, const struct pack *p, uint8_t *words, size_t panel, size_t n)
{
    const size_t in = (size_t)p->weight->in, out = (size_t)p->weight->out, col = panel * TERN_PANEL;
    const size_t ldk = p->transposed ? 1 : out, ldn = p->transposed ? in : 1;
    const size_t part_bytes = tern_weight_layout(TERN_WEIGHT_Q8, p->part).steps * 4 * TERN_PANEL;
    int32_t unused[TERN_PANEL];

    for (size_t i = 0; i < p->n_parts; i++, words += part_bytes) {
        kernels->pack_q8((int8_t *)words, p->start ? p->start + (panel * p->n_parts + i) * TERN_PANEL : unused,
                         (const int8_t *)p->q->codes + col * ldn + i * p->part * ldk, ldk, ldn, p->part, n);
        if (!p->q->layout.symmetric)
            for (size_t b = 0; b < part_bytes; b++)
                words[b] ^= 128; /* q - 128 in eight bits */
    }
}

/* In the tensor the first of two codes is in the upper half of a byte, in a panel in the lower. */
static void pack_nibbles(const struct pack *p, uint8_t *words, size_t panel, size_t n)
{
    const size_t in = (size_t)p->weight->in, out = (size_t)p->weight->out, col = panel * TERN_PANEL;
    const size_t ldk = p->transposed ? 1 : out, ldn = p->transposed ? in : 1;
    const uint8_t turn = p->q->layout.symmetric ? 0 : 8; /* q - 8 in four bits */

    for (size_t k = 0; k < in; k++)
        for (size_t j = 0; j < n; j++) {
            const size_t e = k * ldk + (col + j) * ldn;
            const uint8_t pair = p->q->codes[e / 2], code = (uint8_t)((e % 2 ? pair & 15 : pair >> 4) ^ turn);
            words[(k / 8 * TERN_PANEL + j) * 4 + k % 8 / 2] |= (uint8_t)(k % 2 ? code << 4 : code);
        }
}

/* Rows of scales of a panel, one for `run` elements; columns beyond N divide by 1. */
static void pack_rows(const struct pack *p, size_t run, size_t panel, size_t n)
{
    const size_t n_rows = (size_t)p->weight->in / run, col = panel * TERN_PANEL;

    for (size_t row = 0; row < n_rows; row++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            const size_t at = (panel * n_rows + row) * TERN_PANEL + j;
            const struct reach r =
                j < n ? reach_at(&p->q->layout, p->transposed, row * run, col + j) : (struct reach){ 0, 0, 0 };
            p->scale[at] = j < n ? p->q->scales[r.group] : 1;
            if (p->minimum)
                p->minimum[at] = j < n ? p->q->minima[r.group] : 0;
        }
}

static void pack_region(void *arg, const struct tern_par *par)
{
    const struct pack *p = arg;
    const struct tern_weight *w = p->weight;
    const size_t out = (size_t)w->out, n_panels = (out + TERN_PANEL - 1) / TERN_PANEL;
    const size_t panel_bytes =
        (w->groups ? w->groups->n_parts * w->groups->part_steps : tern_weight_layout(TERN_WEIGHT_Q8, p->part).steps) *
        4 * TERN_PANEL;
    size_t panel, end;

    tern_share(par, n_panels, 1, &panel, &end);
    for (; panel < end; panel++) {
        const size_t left = out - panel * TERN_PANEL, n = left < TERN_PANEL ? left : TERN_PANEL;
        uint8_t *words = (uint8_t *)w->words + panel * panel_bytes;
        if (p->q->layout.bits == 8)
            pack_bytes(par->kernels, p, words, panel, n);
        else
            pack_nibbles(p, words, panel, n);
        if (!w->groups || w->groups->run)
            pack_rows(p, w->groups ? w->groups->run : (size_t)w->in, panel, n);
    }
}

/* Bytes of the panels, of the scales (and as many of the minima) and of the starts. */
struct sizes {
    size_t words, scales, starts, all;
};

static bool count_bytes(const struct tern_weight *w, bool minima, bool starts, struct sizes *s)
{
    const struct tern_weight_groups *g = w->groups;
    const size_t in = (size_t)w->in, n_panels = ((size_t)w->out + TERN_PANEL - 1) / TERN_PANEL;
    const size_t steps = g ? g->n_parts * g->part_steps : tern_weight_layout(TERN_WEIGHT_Q8, in).steps;
    const size_t rows = g ? (g->run ? in / g->run : 0) : 1, row_bytes = TERN_PANEL * sizeof(float);

    s->scales = s->starts = 0;
    if (!tern_size_mul(n_panels, steps, &s->words) || !tern_size_mul(s->words, 4 * TERN_PANEL, &s->words))
        return false;
    if (rows && (!tern_size_mul(n_panels, rows, &s->scales) || !tern_size_mul(s->scales, row_bytes, &s->scales)))
        return false;
    if (!rows)
        s->scales = (size_t)g->layout.n_groups * sizeof(float);
    if (starts)
        s->starts = s->scales;
    return tern_size_add(s->words, s->scales, &s->all) && tern_size_add(s->all, minima ? s->scales : 0, &s->all) &&
           tern_size_add(s->all, s->starts, &s->all);
}

/* What there is to know of groups, NULL for codes with one scale per output channel that are packed as int8. */
static tern_status plan_groups(tern_ctx *ctx, const struct tern_qtensor *q, bool transposed, struct tern_weight *w)
{
    const size_t in = (size_t)w->in, run = find_run(&q->layout, transposed, in, (size_t)w->out);
    const bool bytes = q->layout.bits == 8 && q->layout.symmetric;
    struct tern_weight_groups *g;

    if (bytes && run == in) {
        w->format = TERN_WEIGHT_Q8;
        return TERN_OK;
    }
    w->format = TERN_WEIGHT_GROUPS;
    TERN_TRY(TERN_ALLOC(ctx, 1, "groups of a packed weight", &w->groups));
    g = w->groups;
    g->layout = q->layout;
    g->transposed = transposed;
    g->run = run;
    g->part = bytes && run >= TERN_ROWS_Q8_PART ? run : in;
    g->n_parts = in / g->part;
    g->shift = q->layout.bits == 8 ? 2 : 3;
    g->part_steps = (g->part + ((size_t)1 << g->shift) - 1) >> g->shift;
    return TERN_OK;
}

tern_status tern_weight_pack_quantized(tern_ctx *ctx, const tern_qtensor *q, bool transposed, tern_weight **out)
{
    struct tern_weight *w = NULL;
    struct sizes sizes;
    void *pages = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "weight_pack_quantized: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_REQUIRE(ctx, q, TERN_ERR_ARG, "weight_pack_quantized: q is NULL, expected a quantised matrix");
    TERN_REQUIRE(ctx, q->layout.rank == 2, TERN_ERR_SHAPE, "weight_pack_quantized: q has rank %d, expected a matrix",
                 q->layout.rank);

    TERN_TRY(TERN_ALLOC(ctx, 1, "a packed weight", &w));
    w->in = q->layout.dim[transposed];
    w->out = q->layout.dim[!transposed];
    TERN_TRY_OR_FAIL(plan_groups(ctx, q, transposed, w));
    struct tern_weight_groups *g = w->groups;
    const bool starts = !g || (q->layout.bits == 8 && q->layout.symmetric && g->part == g->run);
    TERN_REQUIRE_OR_FAIL(ctx, count_bytes(w, q->minima != NULL, starts, &sizes), TERN_ERR_MEMORY,
                         "out of memory: panels of a quantised weight [%" PRId64 ", %" PRId64 "]", w->in, w->out);
    TERN_TRY_OR_FAIL(tern_pages_carve(ctx, sizes.all, "a packed weight", &pages));
    w->words = pages;
    w->bytes = sizes.all;

    char *behind = (char *)pages + sizes.words;
    struct pack p = { .q = q,
                      .transposed = transposed,
                      .weight = w,
                      .part = g ? g->part : (size_t)w->in,
                      .n_parts = g ? g->n_parts : 1,
                      .scale = (float *)(void *)behind };
    if (q->minima)
        p.minimum = (float *)(void *)(behind + sizes.scales);
    if (starts)
        p.start = (int32_t *)(void *)(behind + sizes.scales);
    if (g) {
        g->scale = p.scale;
        g->minimum = p.minimum;
        g->start = p.start;
    } else {
        w->scale = p.scale;
        w->start = p.start;
    }
    if (g && !g->run) {
        memcpy(p.scale, q->scales, sizes.scales);
        if (p.minimum)
            memcpy(p.minimum, q->minima, sizes.scales);
    }
    TERN_TRY_OR_FAIL(tern_region(ctx, pack_region, &p));
    *out = w;
    return TERN_OK;

fail:
    tern_weight_destroy(&w);
    return status;
}

/* ---- back to numbers, piece by piece ---- */

/* Scales and minima of the columns from `col` on at element k; how many elements of K they hold for.  Along a run of columns of
 * one group that number can only fall, as in flat groups that end within rows: so the last column of a run has the least. */
static size_t look_up(const struct tern_weight *w, size_t col, size_t k, float *scale, float *minimum)
{
    const struct tern_weight_groups *g = w->groups;
    const size_t left = (size_t)w->out - col, n = left < TERN_PANEL ? left : TERN_PANEL;
    const bool flat = g->layout.grouping == TERN_QUANT_FLAT;
    size_t along = SIZE_MAX;

    for (size_t j = 0; j < n;) {
        const struct reach r = reach_at(&g->layout, g->transposed, k, col + j);
        const size_t end = r.along_out < n - j ? j + r.along_out : n;
        const struct reach last = flat && end - j > 1 ? reach_at(&g->layout, g->transposed, k, col + end - 1) : r;
        const float by = g->scale[r.group], low = g->minimum ? g->minimum[r.group] : 0;
        for (; j < end; j++) {
            scale[j] = by;
            minimum[j] = low;
        }
        along = last.along_in < along ? last.along_in : along;
    }
    for (size_t j = n; j < TERN_PANEL; j++) {
        scale[j] = 1;
        minimum[j] = 0;
    }
    return along;
}

/* The step that has element k of a panel, and which of its elements that is. */
static const uint8_t *step_of(const struct tern_weight *w, size_t panel, size_t k, size_t *first)
{
    const struct tern_weight_groups *g = w->groups;
    const size_t i = g->n_parts > 1 ? k / g->part : 0, in_part = k - i * g->part;
    const size_t step = i * g->part_steps + (in_part >> g->shift);

    *first = in_part & (((size_t)1 << g->shift) - 1);
    return (const uint8_t *)w->words + (panel * g->n_parts * g->part_steps + step) * 4 * TERN_PANEL;
}

/* Elements of K whose scales are looked up before they are used, where each has scales of its own: 4 KiB of stack. */
#define PLACES 16

/* Scales of up to n elements from k on, as rows.  Returns for how many elements: more than PLACES where the first row is for all. */
static size_t look_up_rows(const struct tern_weight *w, size_t col, size_t k, size_t n, float (*scale)[TERN_PANEL],
                           float (*minimum)[TERN_PANEL])
{
    const size_t most = n < PLACES ? n : PLACES;
    size_t done = 0;

    while (done < most) {
        const size_t along = look_up(w, col, k + done, scale[done], minimum[done]);
        if (done == 0 && along > PLACES && n > PLACES)
            return along < n ? along : n;
        const size_t end = along < most - done ? done + along : most;
        for (size_t i = done + 1; i < end; i++) {
            memcpy(scale[i], scale[done], sizeof scale[i]);
            memcpy(minimum[i], minimum[done], sizeof minimum[i]);
        }
        done = end;
    }
    return done;
}

void tern_groups_block(const struct tern_kernels *kernels, const struct tern_weight *w, size_t panel, size_t k,
                       size_t n, float *to)
{
    const struct tern_weight_groups *g = w->groups;
    tern_dequant_q8_fn *const dequant = g->layout.bits == 8 ? kernels->dequant_q8 : kernels->dequant_q4;
    float scales[PLACES][TERN_PANEL], minima[PLACES][TERN_PANEL];

    while (n) {
        const float *scale = scales[0], *minimum = minima[0];
        size_t first, here, ld = 0;
        const uint8_t *words = step_of(w, panel, k, &first);

        if (g->run) {
            const size_t row = (panel * ((size_t)w->in / g->run) + k / g->run) * TERN_PANEL;
            scale = g->scale + row;
            minimum = g->minimum ? g->minimum + row : NULL;
            here = g->run - k % g->run < n ? g->run - k % g->run : n;
        } else {
            here = look_up_rows(w, panel * TERN_PANEL, k, n, scales, minima);
            ld = here > PLACES ? 0 : TERN_PANEL;
        }
        dequant(to, words, first, here, scale, g->minimum ? minimum : NULL, ld);
        to += here * TERN_PANEL;
        k += here;
        n -= here;
    }
}

void tern_groups_channel(const struct tern_weight *w, size_t channel, float *to)
{
    const struct tern_weight_groups *g = w->groups;
    const size_t in = (size_t)w->in, panel = channel / TERN_PANEL, j = channel % TERN_PANEL;
    const bool symmetric = g->layout.symmetric;

    for (size_t k = 0, end = 0; k < in;) {
        size_t at;
        if (g->run) {
            at = (panel * (in / g->run) + k / g->run) * TERN_PANEL + j;
            end += g->run;
        } else {
            const struct reach r = reach_at(&g->layout, g->transposed, k, channel);
            at = r.group;
            end += r.along_in;
        }
        for (; k < end && k < in; k++) {
            size_t first;
            const uint8_t *words = step_of(w, panel, k, &first) + 4 * j;
            const int q =
                g->layout.bits == 8 ? (int8_t)words[first] : ((words[first / 2] >> first % 2 * 4 & 15) ^ 8) - 8;
            to[k] = symmetric ? g->scale[at] * (float)q
                              : (float)(q + (g->layout.bits == 8 ? 128 : 8)) / g->scale[at] + g->minimum[at];
        }
    }
}
