/* token_list.h: the tokens of a text, in order, as a model gives them. */
#ifndef TERN_TEXT_TOKEN_LIST_H
#define TERN_TEXT_TOKEN_LIST_H

#include "base/ctx.h"

#include <tern/tokenizer.h>

/* Bytes of the word that a token came from: what the library calls the token's offsets within the word. */
struct tern_span {
    uint32_t begin, end;
};

/* Ids, and where each came from if that is asked for.  All zero is an empty list that asks for ids alone. */
struct tern_token_list {
    tern_ids ids;
    struct tern_span *spans; /* as many as ids where wants_spans, else NULL */
    size_t spans_capacity;
    bool wants_spans;
};

void tern_token_list_destroy(struct tern_token_list *list);

/* Room for `count` more tokens, which may then be written behind the last one. */
tern_status tern_token_list_reserve(tern_ctx *ctx, struct tern_token_list *list, size_t count);

/* Appends a token; begin and end are not looked at where no spans are wanted.  TERN_ERR_MEMORY. */
tern_status tern_token_list_push(tern_ctx *ctx, struct tern_token_list *list, int32_t id, size_t begin, size_t end);

#endif
