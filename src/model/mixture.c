/* mixture.c: see mixture.h. */
#include "model/mixture.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

struct bind {
    struct tern_binder *binder;
    const struct tern_names *names;
    int32_t layer, expert; /* of the first # of a name, and of the second */
    char name[128];
};

static const char *named(struct bind *b, const char *pattern)
{
    const int32_t numbers[] = { b->layer, b->expert };
    size_t at = 0;
    int n = 0;

    for (; *pattern && at + 1 < sizeof b->name; pattern++) {
        if (*pattern == '#' && n < 2)
            at += (size_t)snprintf(b->name + at, sizeof b->name - at, "%" PRId32, numbers[n++]);
        else
            b->name[at++] = *pattern;
    }
    b->name[at < sizeof b->name ? at : sizeof b->name - 1] = '\0';
    return b->name;
}

bool tern_mixture_here(const struct tern_spec *spec, int32_t layer)
{
    return spec->experts.n > 0 && !(spec->experts.dense && spec->experts.dense[layer]);
}

bool tern_mixture_named(struct tern_binder *binder, const struct tern_spec *spec, const struct tern_names *names)
{
    struct bind b = { .binder = binder };

    if (spec->experts.n == 0)
        return true;
    while (!tern_mixture_here(spec, b.layer))
        b.layer++;
    return tern_binder_find(binder, "%s.weight", named(&b, names->router)) != NULL;
}

/* ---- bind ---- */

/* A matrix [out, in] that computes in fp32. */
static tern_status bind_exact(struct bind *b, tern_weight **to, int64_t in, int64_t out, const char *pattern)
{
    TERN_TRY(tern_binder_matrix(b->binder, to, true, in, out, "%s.weight", named(b, pattern)));
    tern_binder_exact(b->binder);
    return TERN_OK;
}

/* up and gate as [up | gate], and down, each a tensor: those channels of I. */
static tern_status bind_apart(struct bind *b, struct tern_expert *to, int64_t H, int64_t I,
                              const struct tern_shard *here, const char *up, const char *gate, const char *down)
{
    const struct tern_channels channels = { .step = I, .first = here->first, .count = here->count };
    const int64_t dim[] = { I, H };

    TERN_TRY(tern_binder_join(b->binder, &to->owned_up, true));
    TERN_TRY(tern_binder_part(b->binder, &channels, 2, dim, "%s.weight", named(b, up)));
    TERN_TRY(tern_binder_part(b->binder, &channels, 2, dim, "%s.weight", named(b, gate)));
    TERN_TRY(tern_binder_matrix(b->binder, &to->owned_down, true, I, H, "%s.weight", named(b, down)));
    tern_binder_inputs(b->binder, here->first, here->count);
    return TERN_OK;
}

/* Expert e of those in one. */
static tern_status bind_fused(struct bind *b, struct tern_expert *to, int64_t H, int64_t I, int64_t X, bool here)
{
    const int64_t e = b->expert, first_dim[] = { X, 2 * I, H }, second_dim[] = { X, H, I };
    const struct tern_channels gate = { .step = X * 2 * I, .first = e * 2 * I, .count = here ? I : 0 },
                               up = { .step = X * 2 * I, .first = e * 2 * I + I, .count = here ? I : 0 },
                               down = { .step = X * H, .first = e * H, .count = here ? H : 0 };

    TERN_TRY(tern_binder_join(b->binder, &to->owned_up, true));
    TERN_TRY(tern_binder_part(b->binder, &up, 3, first_dim, "%s", named(b, b->names->experts_gate_up)));
    TERN_TRY(tern_binder_part(b->binder, &gate, 3, first_dim, "%s", named(b, b->names->experts_gate_up)));
    TERN_TRY(tern_binder_join(b->binder, &to->owned_down, true));
    return tern_binder_part(b->binder, &down, 3, second_dim, "%s", named(b, b->names->experts_down));
}

tern_status tern_mixture_bind(struct tern_binder *binder, const tern_model_config *config, const struct tern_spec *spec,
                              const struct tern_shards *shards, int32_t layer, struct tern_mixture *out)
{
    const struct tern_experts_spec *s = &spec->experts;
    const struct tern_names *names = spec->names;
    struct bind b = { .binder = binder, .names = names, .layer = layer };
    const int64_t H = config->hidden_size;
    const bool shared = s->shared_width > 0;

    TERN_TRY(TERN_ALLOC(binder->ctx, (size_t)s->n + shared, "the experts of a layer", &out->experts));
    const bool fused = tern_binder_find(binder, "%s", named(&b, names->experts_gate_up)) != NULL;
    for (; b.expert < s->n; b.expert++) {
        struct tern_expert *to = &out->experts[b.expert];
        const int64_t at = b.expert - shards->experts.first;
        const struct tern_shard all = { 0, s->width }, none = { 0 };
        const bool here = at >= 0 && at < shards->experts.count;
        TERN_TRY(fused ? bind_fused(&b, to, H, s->width, s->n, here)
                       : bind_apart(&b, to, H, s->width, here ? &all : &none, names->expert_up, names->expert_gate,
                                    names->expert_down));
    }
    if (shared) {
        TERN_TRY(bind_apart(&b, &out->experts[s->n], H, s->shared_width, &shards->shared, names->shared_up,
                            names->shared_gate, names->shared_down));
        TERN_TRY(bind_exact(&b, &out->gate, H, 1, names->shared_weight));
    }
    return bind_exact(&b, &out->router, H, s->n, names->router);
}

/* ---- after that ---- */

static size_t count(const struct tern_spec *spec)
{
    return (size_t)spec->experts.n + (spec->experts.shared_width > 0);
}

void tern_mixture_finish(const tern_model_config *config, const struct tern_spec *spec, struct tern_mixture *m)
{
    const struct tern_experts_spec *s = &spec->experts;

    for (size_t e = 0; e < count(spec); e++)
        m->experts[e].feed_forward = (struct tern_feed_forward_args){
            .up = m->experts[e].owned_up,
            .down = m->experts[e].owned_down,
            .activation = config->activation,
            .gelu = config->gelu,
        };
    m->bound = (struct tern_experts){
        .n = (size_t)s->n,
        .k = (size_t)s->k,
        .normalize = s->normalize,
        .router = m->router,
        .experts = m->experts,
        .gate = m->gate,
    };
    if (s->shared_width > 0)
        m->bound.shared = m->experts[s->n];
}

void tern_mixture_free(const struct tern_spec *spec, struct tern_mixture *m)
{
    for (size_t e = 0; m->experts && e < count(spec); e++) {
        tern_weight_destroy(&m->experts[e].owned_up);
        tern_weight_destroy(&m->experts[e].owned_down);
    }
    tern_free(m->experts);
    tern_weight_destroy(&m->router);
    tern_weight_destroy(&m->gate);
}

static void add(struct tern_mixture_stats *stats, const tern_weight *w, bool met)
{
    const uint64_t bytes = w ? tern_weight_bytes(w) : 0, elements = w ? (uint64_t)w->in * (uint64_t)w->out : 0;

    stats->bytes += bytes;
    stats->elements += elements;
    stats->met_bytes += met ? bytes : 0;
    stats->met_elements += met ? elements : 0;
}

struct tern_mixture_stats tern_mixture_stats(const struct tern_mixture *m)
{
    struct tern_mixture_stats stats = { 0 };

    add(&stats, m->router, true);
    add(&stats, m->gate, true);
    add(&stats, m->bound.shared.owned_up, true);
    add(&stats, m->bound.shared.owned_down, true);
    for (size_t e = 0; e < m->bound.n; e++) {
        add(&stats, m->experts[e].owned_up, e < m->bound.k);
        add(&stats, m->experts[e].owned_down, e < m->bound.k);
    }
    return stats;
}
