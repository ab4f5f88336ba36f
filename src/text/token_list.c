/* token_list.c: two arrays that grow together. */
#include "text/token_list.h"

#include "base/memory.h"

void tern_ids_free(tern_ids *ids)
{
    if (!ids)
        return;
    tern_free(ids->data);
    *ids = (tern_ids){ 0 };
}

void tern_token_list_destroy(struct tern_token_list *list)
{
    tern_ids_free(&list->ids);
    tern_free(list->spans);
    *list = (struct tern_token_list){ 0 };
}

tern_status tern_token_list_reserve(tern_ctx *ctx, struct tern_token_list *list, size_t count)
{
    const size_t need = list->ids.count + count;

    TERN_TRY(TERN_GROW(ctx, &list->ids.data, &list->ids.capacity, need, "token ids"));
    return list->wants_spans ? TERN_GROW(ctx, &list->spans, &list->spans_capacity, need, "places of tokens") : TERN_OK;
}

tern_status tern_token_list_push(tern_ctx *ctx, struct tern_token_list *list, int32_t id, size_t begin, size_t end)
{
    TERN_TRY(tern_token_list_reserve(ctx, list, 1));
    if (list->wants_spans)
        list->spans[list->ids.count] = (struct tern_span){ (uint32_t)begin, (uint32_t)end };
    list->ids.data[list->ids.count++] = id;
    return TERN_OK;
}
