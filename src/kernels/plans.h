/* plans.h: how products are cut where measuring found something better than the rules of gemm.c.
 *
 * A plan has what may be chosen freely: each element stays one chain over k, so none of it shows in the bits.  A context has one
 * table.  It is changed by who has taken the context, between regions; inside, every thread looks its product up, in
 * constant time and without a lock. */
#ifndef TERN_KERNELS_PLANS_H
#define TERN_KERNELS_PLANS_H

#include "base/ctx.h"

#include <stddef.h>

/* What is multiplied with what: the kernel's name without "gemm_". */
enum tern_plan_kind {
    TERN_PLAN_F32,
    TERN_PLAN_F32_F16,
    TERN_PLAN_F32_BF16,
    TERN_PLAN_BF16,
    TERN_PLAN_F32_Q8,
    TERN_PLAN_Q8,
    TERN_PLAN_KINDS
};
const char *tern_plan_kind_name(enum tern_plan_kind kind);

enum tern_plan_split { TERN_SPLIT_AUTO, TERN_SPLIT_PANELS, TERN_SPLIT_ROWS, TERN_SPLITS };
const char *tern_plan_split_name(enum tern_plan_split split); /* "auto", "panels", "rows" */

/* 0 in a field: gemm.c's rule. */
struct tern_plan {
    uint32_t tile_rows; /* most rows of a tile, up to TERN_TILE_ROWS */
    uint32_t
        k_block; /* most steps of f32 between two visits of a tile, up to TERN_PLAN_K_MAX; see tern_kernels.k_block */
    enum tern_plan_split split;
};
#define TERN_PLAN_K_MAX 65536

/* Numbers of rows with one plan: [2^b, 2^(b + 1)), the last without an end. */
#define TERN_PLAN_BUCKETS 12
uint32_t tern_plan_bucket(size_t m); /* m >= 1 */

struct tern_plan_key {
    int64_t in, out; /* K, N */
    enum tern_plan_kind kind;
    uint32_t bucket;
    uint32_t threads;
};

struct tern_plan_entry {
    struct tern_plan_key key;
    struct tern_plan plan;
    int64_t default_ns, best_ns; /* of one product: by the rules, by the plan */
    bool measured;               /* by this context, and not stored yet */
    uint32_t call;               /* which tuning call of this context found it; 0: none, it was in the file */
};

struct tern_plans {
    struct tern_plan_entry *entries;
    size_t count, capacity;
    uint32_t *slots; /* open addressing: 0, or 1 + an index of entries */
    size_t n_slots;  /* a power of two, at least twice the entries */
    uint32_t call;   /* number of the latest tuning call */
    bool off;        /* TERN_TUNE=off: no file is read or written, nothing is tuned at creation */
    char note[512];  /* what was wrong with the file when it was last used, "" if nothing */
};

/* An empty table.  TERN_ERR_MEMORY. */
tern_status tern_plans_create(tern_ctx *ctx, struct tern_plans **out);
void tern_plans_destroy(struct tern_plans *plans); /* NULL is fine */
/* NULL: there is none, and the rules hold. */
const struct tern_plan_entry *tern_plans_find(const struct tern_plans *plans, const struct tern_plan_key *key);
/* Adds an entry, or replaces that of its key.  TERN_ERR_MEMORY: the table is as it was. */
tern_status tern_plans_put(tern_ctx *ctx, struct tern_plans *plans, const struct tern_plan_entry *entry);
/* ---- the file: one for each processor, level and version, $XDG_CACHE_HOME/tern/tune/LEVEL-VERSION-HASH.txt (~/.cache without it)
 *
 * Text: what it was made for, one line an entry, a checksum.  What is not right to the last byte is ignored, and replaced by the
 * next store.  Nothing here fails: plans are a wish, `note` says what became of it. */

#define TERN_PLANS_FILE_MAX (4096 * 1024) /* bytes: 40000 entries at least */

/* The lines that a file of this machine and level begins with, with their newlines. */
void tern_plans_head(const char *isa, char *out, size_t size);
/* Adds a text's entries.  TERN_ERR_FORMAT with `where`, line, found and expected, TERN_ERR_MEMORY; some entries may be there then. */
tern_status tern_plans_parse(tern_ctx *ctx, const char *text, size_t size, const char *where, const char *head,
                             struct tern_plans *plans);
/* The table as such a text, freed by tern_free; of more than TERN_PLANS_FILE_MAX bytes the latest entries.  TERN_ERR_MEMORY. */
tern_status tern_plans_format(tern_ctx *ctx, const struct tern_plans *plans, const char *head, char **out,
                              size_t *size);

/* Takes the file's entries into an empty table.  No file: no note. */
void tern_plans_load(struct tern_plans *plans, const char *isa);
/* Puts what this context measured over what the file has by now, under a lock, and replaces the file at once.  Then the table has both.
 * Whether it is stored; true if nothing was measured. */
bool tern_plans_store(struct tern_plans *plans, const char *isa);
/* The file's path, "" where neither variable is set, or it takes more than `size`. */
void tern_plans_path(const char *isa, char *out, size_t size);

/* Whether each field of an entry is one that a table may hold. */
bool tern_plan_entry_is_valid(const struct tern_plan_entry *entry);

#endif
