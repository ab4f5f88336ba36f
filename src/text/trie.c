/* trie.c: the double array is filled from sorted keys, a node's children at a time.
 *
 * Places for children are looked for among the free nodes of the last blocks of 256: trying all that were ever left
 * would be quadratic, and costs less than a tenth of the room. */
#include "text/trie.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK       256
#define OPEN_BLOCKS 16
#define TRIES       128        /* places looked at before a new block is begun */
#define NO_PARENT   UINT32_MAX /* the node is free, or the root */
#define NIL         UINT32_MAX

/* A node whose children are not placed yet: keys[begin..end) go through it, and share `depth` bytes. */
struct branch {
    uint32_t node;
    size_t begin, end, depth;
};

struct builder {
    tern_ctx *ctx;
    struct tern_trie *trie;
    size_t capacity;
    /* Free nodes of open blocks, in a list: a free node's `base` is the next one, its `value` the one before. */
    uint32_t first_free, last_free;
    struct branch *stack;
    size_t n_stack, stack_capacity;
};

static void unlink_free(struct builder *b, uint32_t node)
{
    struct tern_trie_node *nodes = b->trie->nodes;
    const uint32_t next = nodes[node].base, before = (uint32_t)nodes[node].value;

    if (before == NIL)
        b->first_free = next;
    else
        nodes[before].base = next;
    if (next == NIL)
        b->last_free = before;
    else
        nodes[next].value = (int32_t)before;
}

/* 256 more nodes, all free; the block that is too old now is closed: its free nodes stay so for ever. */
static tern_status add_block(struct builder *b)
{
    struct tern_trie *trie = b->trie;
    const size_t begin = trie->n_nodes;

    TERN_REQUIRE(b->ctx, begin < (size_t)INT32_MAX - BLOCK, TERN_ERR_CAPACITY, "a trie of %zu nodes, at most %d", begin,
                 INT32_MAX);
    TERN_TRY(TERN_GROW(b->ctx, &trie->nodes, &b->capacity, begin + BLOCK, "a trie"));
    trie->n_nodes = begin + BLOCK;
    for (size_t i = begin; i < begin + BLOCK; i++) {
        trie->nodes[i] = (struct tern_trie_node){ NIL, NO_PARENT, (int32_t)b->last_free };
        if (b->last_free == NIL)
            b->first_free = (uint32_t)i;
        else
            trie->nodes[b->last_free].base = (uint32_t)i;
        b->last_free = (uint32_t)i;
    }
    if (begin >= OPEN_BLOCKS * BLOCK) {
        const size_t closed = begin - OPEN_BLOCKS * BLOCK;

        while (b->first_free < closed + BLOCK) {
            const uint32_t node = b->first_free;

            unlink_free(b, node);
            trie->nodes[node] = (struct tern_trie_node){ 0, NO_PARENT, -1 };
        }
    }
    return TERN_OK;
}

/* Whether base ^ c is free for all bytes c; base is in an open block. */
static bool fits(const struct builder *b, uint32_t base, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b->trie->nodes[base ^ bytes[i]].parent != NO_PARENT || (base ^ bytes[i]) == TERN_TRIE_ROOT)
            return false;
    return true;
}

static tern_status place(struct builder *b, const unsigned char *bytes, size_t n, uint32_t *base)
{
    uint32_t at = b->first_free;

    for (int tries = 0; tries < TRIES && at != NIL; tries++, at = b->trie->nodes[at].base) {
        *base = at ^ bytes[0];
        if (fits(b, *base, bytes, n))
            return TERN_OK;
    }
    *base = (uint32_t)b->trie->n_nodes ^ bytes[0];
    return add_block(b);
}

static tern_status push(struct builder *b, struct branch branch)
{
    TERN_TRY(TERN_GROW(b->ctx, &b->stack, &b->stack_capacity, b->n_stack + 1, "a trie"));
    b->stack[b->n_stack++] = branch;
    return TERN_OK;
}

static tern_status expand(struct builder *b, const struct tern_trie_key *keys, struct branch branch)
{
    unsigned char bytes[BLOCK];
    size_t begins[BLOCK + 1], n = 0;
    uint32_t base;

    for (size_t i = branch.begin; i < branch.end; i++) {
        const unsigned char byte = (unsigned char)keys[i].text[branch.depth];

        if (n == 0 || bytes[n - 1] != byte) {
            bytes[n] = byte;
            begins[n++] = i;
        }
    }
    begins[n] = branch.end;
    TERN_TRY(place(b, bytes, n, &base));
    b->trie->nodes[branch.node].base = base;
    for (size_t i = 0; i < n; i++) {
        const uint32_t child = base ^ bytes[i];
        struct branch below = { child, begins[i], begins[i + 1], branch.depth + 1 };

        unlink_free(b, child);
        b->trie->nodes[child] = (struct tern_trie_node){ 0, branch.node, -1 };
        /* of keys that go through a node, the one that ends there is the first */
        if (keys[below.begin].size == below.depth)
            b->trie->nodes[child].value = keys[below.begin++].value;
        if (below.begin < below.end)
            TERN_TRY(push(b, below));
    }
    return TERN_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct tern_trie_key *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);

    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

tern_status tern_trie_create(tern_ctx *ctx, struct tern_trie_key *keys, size_t n, const char *where,
                             struct tern_trie *out)
{
    struct builder b = { .ctx = ctx, .trie = out, .first_free = NIL, .last_free = NIL };
    size_t empty = 0;
    tern_status status;

    *out = (struct tern_trie){ 0 };
    if (n > 1)
        qsort(keys, n, sizeof *keys, compare_keys);
    while (empty < n && keys[empty].size == 0)
        empty++;
    for (size_t i = empty + 1; i < n; i++)
        TERN_REQUIRE(ctx, compare_keys(&keys[i - 1], &keys[i]) != 0, TERN_ERR_FORMAT, "%s: %d and %d are both '%.*s'",
                     where, keys[i - 1].value, keys[i].value, (int)keys[i].size, keys[i].text);
    for (size_t i = empty; i < n; i++)
        out->longest = keys[i].size > out->longest ? keys[i].size : out->longest;

    TERN_TRY_OR_FAIL(add_block(&b));
    unlink_free(&b, TERN_TRIE_ROOT);
    out->nodes[TERN_TRIE_ROOT] = (struct tern_trie_node){ 0, NO_PARENT, -1 };
    if (empty < n)
        TERN_TRY_OR_FAIL(push(&b, (struct branch){ TERN_TRIE_ROOT, empty, n, 0 }));
    while (b.n_stack > 0)
        TERN_TRY_OR_FAIL(expand(&b, keys, b.stack[--b.n_stack]));
    tern_free(b.stack);
    return TERN_OK;

fail:
    tern_free(b.stack);
    tern_trie_destroy(out);
    return status;
}

void tern_trie_destroy(struct tern_trie *trie)
{
    tern_free(trie->nodes);
    *trie = (struct tern_trie){ 0 };
}
