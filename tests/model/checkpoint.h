/* checkpoint.h: what the tests of src/model share: files made by hand, a checkpoint with one thing changed, and a model
 * run without a session. */
#ifndef TERN_TESTS_CHECKPOINT_H
#define TERN_TESTS_CHECKPOINT_H

#include "base/file.h"
#include "base/json.h"
#include "model/arch.h"
#include "model/safetensors.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- files ---- */

/* Writes a safetensors file: the header's text and data of a counting pattern. */
static inline const char *write_safetensors(const char *dir, const char *name, const char *header, size_t header_size,
                                            const void *data, size_t data_size)
{
    const size_t size = 8 + header_size + data_size;
    unsigned char *bytes = malloc(size);

    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)header_size >> 8 * i);
    memcpy(bytes + 8, header, header_size);
    for (size_t i = 0; !data && i < data_size; i++)
        bytes[8 + header_size + i] = (unsigned char)(i * 7 + 3);
    if (data && data_size)
        memcpy(bytes + 8 + header_size, data, data_size);
    const char *path = test_write(dir, name, bytes, size);
    free(bytes);
    return path;
}

/* text with its first `from` replaced by `to`; the test fails where `from` is not in it.  Freed with free(). */
static inline char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    if (!at)
        fail_msg("\"%s\" is not in the text to change", from);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(out);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

/* A checkpoint in memory. */
struct checkpoint {
    char *config; /* config.json */
    char *header; /* of model.safetensors */
    unsigned char *data;
    size_t data_size;
};

static inline struct checkpoint checkpoint_read(const char *dir)
{
    struct checkpoint c = { 0 };
    char path[4096];
    size_t size, header_size = 0;

    snprintf(path, sizeof path, "%s/config.json", dir);
    c.config = test_read(path, &size);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    char *file = test_read(path, &size);
    for (int i = 7; i >= 0; i--)
        header_size = header_size << 8 | (unsigned char)file[i];
    c.header = calloc(1, header_size + 1);
    c.data_size = size - 8 - header_size;
    c.data = malloc(c.data_size);
    assert_true(c.header && c.data);
    memcpy(c.header, file + 8, header_size);
    memcpy(c.data, file + 8 + header_size, c.data_size);
    free(file);
    return c;
}

static inline void checkpoint_free(struct checkpoint *c)
{
    free(c->config);
    free(c->header);
    free(c->data);
}

static inline void checkpoint_edit(char **text, const char *from, const char *to)
{
    char *changed = replaced(*text, from, to);

    free(*text);
    *text = changed;
}

/* Another tensor at the end of the data; `shape` as in the header.  data may be a tensor of the
 * same checkpoint; NULL: zeros. */
static inline void checkpoint_add(struct checkpoint *c, const char *name, const char *dtype, const char *shape,
                                  const void *data, size_t size)
{
    char entry[512];
    char *end = strrchr(c->header, '}');

    snprintf(entry, sizeof entry, ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}}", name, dtype,
             shape, c->data_size, c->data_size + size);
    *end = '\0';
    char *header = malloc(strlen(c->header) + strlen(entry) + 1);
    assert_non_null(header);
    sprintf(header, "%s%s", c->header, entry);
    free(c->header);
    c->header = header;

    unsigned char *longer = calloc(c->data_size + size + 1, 1);
    assert_non_null(longer);
    memcpy(longer, c->data, c->data_size);
    if (data)
        memcpy(longer + c->data_size, data, size);
    free(c->data);
    c->data = longer;
    c->data_size += size;
}

/* Place of a tensor's data by its name. */
static inline unsigned char *checkpoint_tensor(const struct checkpoint *c, const char *name, size_t *size)
{
    size_t begin, end;
    char key[256];

    snprintf(key, sizeof key, "\"%s\":{", name);
    const char *at = strstr(c->header, key);
    assert_non_null(at);
    at = strstr(at, "data_offsets\":[");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "data_offsets\":[%zu,%zu]", &begin, &end), 2);
    *size = end - begin;
    return c->data + begin;
}

static inline void checkpoint_write(const struct checkpoint *c, const char *dir)
{
    test_write(dir, "config.json", c->config, strlen(c->config));
    write_safetensors(dir, "model.safetensors", c->header, strlen(c->header), c->data, c->data_size);
}

/* ---- running ---- */

/* A model with a cache and scratch of its own. */
struct runner {
    tern_ctx *ctx;
    const tern_model *model;
    tern_kv_cache *cache;
    struct tern_arena arena;
    struct tern_model_work work;
    size_t H, V, L;
    const int32_t *types; /* of the rows of the next step, or NULL */
};

static inline struct runner runner_create(tern_ctx *ctx, const tern_model *model, size_t max_rows, int32_t n_sequences)
{
    const tern_model_config *c = tern_model_get_config(model);
    struct runner r = {
        .ctx = ctx, .model = model, .H = (size_t)c->hidden_size, .V = (size_t)c->vocab_size, .L = (size_t)c->n_layers
    };
    const tern_kv_shape shape = { c->n_layers,
                                  c->kv_heads,
                                  c->head_dim,
                                  ((int64_t)c->n_context + 63) / 64 * 64 * n_sequences,
                                  n_sequences,
                                  c->n_context,
                                  c->row_dtype == TERN_BF16 ? TERN_BF16 : TERN_FP32 };
    struct tern_arena counter = tern_arena_counter();

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &r.cache));
    tern_model_work_take(&counter, model, max_rows, max_rows, tern_ctx_threads(ctx), &r.work);
    assert_ok(ctx, tern_arena_create(ctx, counter.used, "scratch", &r.arena));
    tern_model_work_take(&r.arena, model, max_rows, max_rows, tern_ctx_threads(ctx), &r.work);
    return r;
}

static inline void runner_destroy(struct runner *r)
{
    tern_kv_cache_destroy(&r->cache);
    tern_arena_destroy(&r->arena);
}

/* One step: span i gets the next spans[i].n_rows of ids (its row and position are filled in here).
 * logits [T][V] of all rows and hidden [L + 2][T][H], each or NULL. */
static inline tern_status runner_step(struct runner *r, tern_kv_span *spans, size_t n_spans, const int32_t *ids,
                                      float *logits, float *hidden, const atomic_bool *cancel)
{
    int32_t n_rows = 0;

    for (size_t i = 0; i < n_spans; i++) {
        spans[i].row = n_rows;
        spans[i].position = tern_kv_sequence_length(r->cache, spans[i].sequence);
        n_rows += spans[i].n_rows;
    }
    int32_t *positions = malloc((size_t)n_rows * sizeof *positions), *rows = malloc((size_t)n_rows * sizeof *rows);
    assert_true(positions && rows);
    for (size_t i = 0; i < n_spans; i++)
        tern_model_places(r->model, ids + spans[i].row, spans[i].n_rows, (int32_t)spans[i].position,
                          positions + spans[i].row);
    for (int32_t t = 0; t < n_rows; t++)
        rows[t] = t;

    const struct tern_batch batch = {
        .ids = ids,
        .types = r->types,
        .positions = positions,
        .kv = { .cache = r->cache, .spans = spans, .n_spans = n_spans, .n_rows = (size_t)n_rows },
        .logit_rows = rows,
        .n_logits = logits ? (size_t)n_rows : 0,
        .logits = logits,
        .hidden = hidden,
        .cancel = cancel
    };
    tern_status status = tern_kv_reserve(r->ctx, r->cache, spans, n_spans);
    if (status == TERN_OK)
        status = tern_model_forward(r->ctx, r->model, &batch, &r->work);
    if (status == TERN_OK)
        assert_ok(r->ctx, tern_kv_commit(r->ctx, r->cache, spans, n_spans));
    free(positions);
    free(rows);
    return status;
}

/* A sequence of its own, in one piece. */
static inline void run_alone_typed(tern_ctx *ctx, const tern_model *model, const int32_t *ids, const int32_t *types,
                                   int32_t n, float *logits, float *hidden)
{
    struct runner r = runner_create(ctx, model, (size_t)n, 1);
    tern_kv_span span = { .n_rows = n };

    r.types = types;

    assert_ok(ctx, tern_kv_sequence_add(ctx, r.cache, &span.sequence));
    assert_ok(ctx, runner_step(&r, &span, 1, ids, logits, hidden, NULL));
    runner_destroy(&r);
}

static inline void run_alone(tern_ctx *ctx, const tern_model *model, const int32_t *ids, int32_t n, float *logits,
                             float *hidden)
{
    run_alone_typed(ctx, model, ids, NULL, n, logits, hidden);
}

#endif
