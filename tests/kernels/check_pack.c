/* check_pack.c: panels from matrices of three types in any order. */
#include "tc.h"

static const struct pack_shape {
    size_t k, n, ldk, ldn;
} shapes[] = { { 1, 1, 1, 1 },    { 1, 32, 32, 1 },  { 17, 32, 32, 1 }, { 5, 16, 40, 1 },
               { 5, 15, 15, 1 },  { 9, 17, 100, 1 }, { 16, 32, 1, 16 }, { 33, 32, 1, 33 },
               { 15, 31, 1, 64 }, { 47, 1, 1, 50 },  { 64, 20, 1, 70 }, { 7, 9, 3, 50 },
               { 20, 32, 64, 2 }, { 0, 32, 32, 1 },  { 4, 0, 1, 4 },    { 130, 32, 1, 130 } };

static size_t extent(const struct pack_shape *s)
{
    return s->k && s->n ? (s->k - 1) * s->ldk + (s->n - 1) * s->ldn + 1 : 0;
}

void check_pack_f32(struct tc *t)
{
    for (size_t i = 0; i < TC_COUNT(shapes); i++) {
        const struct pack_shape *s = &shapes[i];

        if (!tc_case(t, "k=%zu,n=%zu,ldk=%zu,ldn=%zu", s->k, s->n, s->ldk, s->ldn))
            continue;
        const float *w = tc_in_f32(t, extent(s), TC_SPECIAL);
        float *want = tc_out_panel(t, s->k * 32), *got = tc_out_panel(t, s->k * 32);

        t->ref.pack_f32(want, w, s->ldk, s->ldn, s->k, s->n);
        t->new.pack_f32(got, w, s->ldk, s->ldn, s->k, s->n);
        tc_same_f32(t, want, got, s->k * 32);
    }
    for (int columns = 0; columns < 2; columns++)
        if (tc_bench(t, 8.0 * 768 * 32, 0, "k=768,%s", columns ? "columns" : "rows")) {
            const float *w = tc_in_f32(t, 768 * 768, TC_NORMAL);
            float *got = tc_out_panel(t, 768 * 32);

            TC_TIME(t) t->new.pack_f32(got, w, columns ? 1 : 768, columns ? 768 : 1, 768, 32);
        }
}

static void check_halves(struct tc *t, tern_pack_f16_fn *ref, tern_pack_f16_fn *new)
{
    for (size_t i = 0; i < TC_COUNT(shapes); i++) {
        const struct pack_shape *s = &shapes[i];

        if (!tc_case(t, "k=%zu,n=%zu,ldk=%zu,ldn=%zu", s->k, s->n, s->ldk, s->ldn))
            continue;
        const uint16_t *w = tc_in_u16(t, extent(s), TC_BITS);
        float *want = tc_out_panel(t, s->k * 32), *got = tc_out_panel(t, s->k * 32);

        ref(want, w, s->ldk, s->ldn, s->k, s->n);
        new (got, w, s->ldk, s->ldn, s->k, s->n);
        tc_same_f32(t, want, got, s->k * 32);
    }
    for (int columns = 0; columns < 2; columns++)
        if (tc_bench(t, 6.0 * 768 * 32, 0, "k=768,%s", columns ? "columns" : "rows")) {
            const uint16_t *w = tc_in_u16(t, 768 * 768, TC_NORMAL);
            float *got = tc_out_panel(t, 768 * 32);

            TC_TIME(t) new (got, w, columns ? 1 : 768, columns ? 768 : 1, 768, 32);
        }
}

void check_pack_f16(struct tc *t)
{
    check_halves(t, t->ref.pack_f16, t->new.pack_f16);
}

void check_pack_bf16(struct tc *t)
{
    check_halves(t, t->ref.pack_bf16, t->new.pack_bf16);
}
