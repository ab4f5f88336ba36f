/* plans.c: the table of plans. */
#include "kernels/plans.h"

#include "base/memory.h"
#include "base/threads.h"
#include "kernels/kernels.h"

const char *tern_plan_kind_name(enum tern_plan_kind kind)
{
    static const char *const names[TERN_PLAN_KINDS] = { "f32", "f32_f16", "f32_bf16", "bf16", "f32_q8", "q8" };

    return names[kind];
}

const char *tern_plan_split_name(enum tern_plan_split split)
{
    static const char *const names[TERN_SPLITS] = { "auto", "panels", "rows" };

    return names[split];
}

uint32_t tern_plan_bucket(size_t m)
{
    uint32_t bucket = 0;

    while (bucket + 1 < TERN_PLAN_BUCKETS && m >> (bucket + 1))
        bucket++;
    return bucket;
}

bool tern_plan_entry_is_valid(const struct tern_plan_entry *e)
{
    const struct tern_plan_key *k = &e->key;

    return k->in >= 1 && k->in <= INT32_MAX && k->out >= 1 && k->out <= INT32_MAX &&
           (unsigned)k->kind < TERN_PLAN_KINDS && k->bucket < TERN_PLAN_BUCKETS && k->threads >= 1 &&
           k->threads <= TERN_MAX_THREADS && e->plan.tile_rows <= TERN_TILE_ROWS &&
           e->plan.k_block <= TERN_PLAN_K_MAX && (unsigned)e->plan.split < TERN_SPLITS && e->default_ns >= 0 &&
           e->best_ns >= 0;
}

/* ---- the hash: splitmix64's last steps over the fields ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t hash(const struct tern_plan_key *k)
{
    const uint64_t sizes = (uint64_t)k->in << 32 ^ (uint64_t)k->out;
    const uint64_t rest = (uint64_t)k->kind << 32 | (uint64_t)k->bucket << 16 | k->threads;

    return (size_t)mix(sizes + mix(rest + 0x9e3779b97f4a7c15));
}

static bool is_same(const struct tern_plan_key *a, const struct tern_plan_key *b)
{
    return a->in == b->in && a->out == b->out && a->kind == b->kind && a->bucket == b->bucket &&
           a->threads == b->threads;
}

/* The slot that has a key, or the free one where it would stand. */
static size_t slot_of(const struct tern_plans *plans, const struct tern_plan_key *key)
{
    const size_t mask = plans->n_slots - 1;
    size_t at = hash(key) & mask;

    while (plans->slots[at] && !is_same(&plans->entries[plans->slots[at] - 1].key, key))
        at = (at + 1) & mask;
    return at;
}

const struct tern_plan_entry *tern_plans_find(const struct tern_plans *plans, const struct tern_plan_key *key)
{
    if (plans->count == 0)
        return NULL;
    const uint32_t found = plans->slots[slot_of(plans, key)];
    return found ? &plans->entries[found - 1] : NULL;
}

/* ---- changing it ---- */

tern_status tern_plans_create(tern_ctx *ctx, struct tern_plans **out)
{
    return TERN_ALLOC(ctx, 1, "plans of products", out);
}

void tern_plans_destroy(struct tern_plans *plans)
{
    if (!plans)
        return;
    tern_free(plans->entries);
    tern_free(plans->slots);
    tern_free(plans);
}

/* Slots for one entry more. */
static tern_status grow_slots(tern_ctx *ctx, struct tern_plans *plans)
{
    const size_t old = plans->n_slots;
    uint32_t *slots, *before = plans->slots;

    if (2 * (plans->count + 1) <= old)
        return TERN_OK;
    TERN_TRY(TERN_ALLOC(ctx, old ? 2 * old : 64, "plans of products", &slots));
    plans->slots = slots;
    plans->n_slots = old ? 2 * old : 64;
    for (size_t i = 0; i < plans->count; i++)
        slots[slot_of(plans, &plans->entries[i].key)] = (uint32_t)(i + 1);
    tern_free(before);
    return TERN_OK;
}

tern_status tern_plans_put(tern_ctx *ctx, struct tern_plans *plans, const struct tern_plan_entry *entry)
{
    TERN_TRY(TERN_GROW(ctx, &plans->entries, &plans->capacity, plans->count + 1, "plans of products"));
    TERN_TRY(grow_slots(ctx, plans));
    uint32_t *slot = &plans->slots[slot_of(plans, &entry->key)];
    if (!*slot)
        *slot = (uint32_t)++plans->count;
    plans->entries[*slot - 1] = *entry;
    return TERN_OK;
}
