/* names.h: from the text of a token to its id. */
#ifndef TERN_TEXT_NAMES_H
#define TERN_TEXT_NAMES_H

#include "base/ctx.h"

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

/* The id, or -1. */
int32_t tern_names_find(const struct tern_names *names, const char *text, size_t size);

#endif
