/* stage.c: see stage.h. */
#include "ops/stage.h"

#include "ops/widen.h"

#include <assert.h>

static void add(struct tern_stage *stage, const tern_tensor *t, float **at, bool in, bool out)
{
    *at = NULL;
    if (!tern_given(t))
        return;
    if (t->dtype == TERN_FP32) {
        *at = t->data;
        return;
    }
    assert(stage->count < TERN_STAGE_MAX);
    stage->staged[stage->count++] = (struct tern_staged){
        .data = t->data, .dtype = t->dtype, .n = tern_elements(t), .wide = at, .in = in, .out = out
    };
}

void tern_stage_in(struct tern_stage *stage, const tern_tensor *t, const float **at)
{
    add(stage, t, (float **)(uintptr_t)at, true, false);
}

void tern_stage_out(struct tern_stage *stage, const tern_tensor *t, float **at)
{
    add(stage, t, at, false, true);
}

void tern_stage_in_out(struct tern_stage *stage, const tern_tensor *t, float **at)
{
    add(stage, t, at, true, true);
}

/* Floats that n elements take, in whole cache lines, so that each tensor starts aligned. */
static size_t room(size_t n)
{
    return (n + 15) / 16 * 16;
}

tern_status tern_stage_open(tern_ctx *ctx, struct tern_stage *stage)
{
    size_t floats = 0, bytes = 0;
    bool fits = true;
    float *to;

    for (size_t i = 0; i < stage->count; i++)
        fits = fits && tern_size_add(floats, room(stage->staged[i].n), &floats);
    TERN_REQUIRE(ctx, fits && tern_size_mul(floats, sizeof(float), &bytes), TERN_ERR_MEMORY,
                 "out of memory: %zu numbers in fp32", floats);
    TERN_TRY(tern_scratch_take(ctx, bytes, "tensors in fp32", &stage->memory));
    stage->bytes = bytes;
    to = stage->memory;
    for (size_t i = 0; i < stage->count; i++) {
        *stage->staged[i].wide = to;
        to += room(stage->staged[i].n);
    }
    return TERN_OK;
}

void tern_stage_close(tern_ctx *ctx, struct tern_stage *stage)
{
    tern_scratch_give(ctx, stage->memory, stage->bytes);
    stage->memory = NULL;
}

void tern_stage_load(const struct tern_par *par, const struct tern_stage *stage)
{
    bool any = false;

    for (size_t i = 0; i < stage->count; i++) {
        const struct tern_staged *s = &stage->staged[i];
        size_t begin, end;
        if (!s->in)
            continue;
        any = true;
        tern_share(par, s->n, 64, &begin, &end);
        if (begin < end)
            tern_wide_load(par->kernels, *s->wide + begin, s->data, s->dtype, begin, end - begin);
    }
    if (any)
        tern_barrier(par);
}

void tern_stage_store(const struct tern_par *par, const struct tern_stage *stage)
{
    for (size_t i = 0; i < stage->count; i++) {
        const struct tern_staged *s = &stage->staged[i];
        size_t begin, end;
        if (!s->out)
            continue;
        tern_share(par, s->n, 64, &begin, &end);
        if (begin < end)
            tern_wide_store(par->kernels, s->data, s->dtype, begin, *s->wide + begin, end - begin);
    }
}
