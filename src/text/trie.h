/* trie.h: all tokens that a text begins with, shortest first.
 *
 * A double array: a node's child by a byte is at base ^ byte, and is its child if its `parent` says so.  One look a byte,
 * 12 bytes a node.  Source: Aoe 1989, "An efficient digital search algorithm by using a double-array structure". */
#ifndef TERN_TEXT_TRIE_H
#define TERN_TEXT_TRIE_H

#include "base/ctx.h"

#define TERN_TRIE_ROOT 0

struct tern_trie_node {
    uint32_t base, parent;
    int32_t value; /* -1: no key ends here */
};

/* All zero knows no key, and must not be walked. */
struct tern_trie {
    struct tern_trie_node *nodes;
    size_t n_nodes; /* a multiple of 256 */
    size_t longest; /* bytes of the longest key */
};

struct tern_trie_key {
    const char *text; /* may hold NULs */
    size_t size;
    int32_t value; /* >= 0 */
};

/* The trie of n keys, of which empty ones are left out; sorts `keys`.  O(bytes log n).  TERN_ERR_FORMAT (two keys have the
 * same text; `where` names the file), TERN_ERR_CAPACITY, TERN_ERR_MEMORY. */
tern_status tern_trie_create(tern_ctx *ctx, struct tern_trie_key *keys, size_t n, const char *where,
                             struct tern_trie *out);
void tern_trie_destroy(struct tern_trie *trie);

/* Goes from *node to its child by a byte; false, and *node is the same, if there is none. */
static inline bool tern_trie_step(const struct tern_trie *trie, uint32_t *node, unsigned char byte)
{
    const uint32_t child = trie->nodes[*node].base ^ byte;

    if (trie->nodes[child].parent != *node)
        return false;
    *node = child;
    return true;
}

#endif
