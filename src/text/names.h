/* names.h: from the text of a token to its id. */
#ifndef TERN_TEXT_NAMES_H
#define TERN_TEXT_NAMES_H

#include "text/trie.h"

struct tern_name {
    uint32_t hash;
    uint32_t begin, size; /* in the table's text */
    int32_t id;           /* -1: the place is free */
};

/* A table of texts with an id each; the texts may hold NULs.  All zero is an empty one. */
struct tern_names {
    struct tern_name *slots;
    size_t n_slots; /* a power of two */
    size_t count;
    char *text; /* all texts, one behind the other */
    size_t text_size, text_capacity;
};

/* Room for `count` names of `bytes` bytes in all; the table is empty. */
tern_status tern_names_create(tern_ctx *ctx, size_t count, size_t bytes, const char *what, struct tern_names *out);
void tern_names_destroy(struct tern_names *names);

/* Adds a name that is not there yet, within the room asked for. */
void tern_names_put(struct tern_names *names, const char *text, size_t size, int32_t id);

/* The same, but the text may be there: the id that was put first is the one that is found. */
void tern_names_put_behind(struct tern_names *names, const char *text, size_t size, int32_t id);

/* A trie of the names with the ids that are found for them; once all are there. */
tern_status tern_names_trie(tern_ctx *ctx, const struct tern_names *names, struct tern_trie *out);

/* The ids of "<0x00>" to "<0xFF>", -1 for those that are not there. */
void tern_names_find_bytes(const struct tern_names *names, int32_t ids[256]);

/* The id, or -1. */
int32_t tern_names_find(const struct tern_names *names, const char *text, size_t size);

#endif
