/* post.c: plans of post-processors, and limits of length.
 *
 * A plan is made by letting the processors work on symbols instead of tokens: a list of pieces (the library's
 * encodings), each a list of items, at first one piece with the first text in it, or two. */
#include "text/post.h"

#include "base/memory.h"

#include <string.h>

static void destroy_list(struct tern_post_list *list)
{
    tern_free(list->items);
    *list = (struct tern_post_list){ 0 };
}

void tern_post_destroy(struct tern_post *post)
{
    for (size_t i = 0; i < post->n_steps; i++) {
        destroy_list(&post->steps[i].single);
        destroy_list(&post->steps[i].pair);
    }
    for (int i = 0; i < 4; i++)
        destroy_list(&post->plan[i / 2][i % 2]);
    *post = (struct tern_post){ 0 };
}

static tern_status add_item(tern_ctx *ctx, struct tern_post_list *list, struct tern_post_item item)
{
    TERN_TRY(TERN_GROW(ctx, &list->items, &list->capacity, list->count + 1, "the post-processor"));
    list->items[list->count++] = item;
    return TERN_OK;
}

tern_status tern_post_list_add(tern_ctx *ctx, struct tern_post_list *list, int32_t id, uint32_t type)
{
    return add_item(ctx, list, (struct tern_post_item){ .id = id, .type = type });
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

/* Pieces of items: piece i is [ends[i - 1], ends[i]) of the list. */
struct pieces {
    struct tern_post_list list;
    size_t *ends;
    size_t count, capacity;
};

static void destroy_pieces(struct pieces *p)
{
    destroy_list(&p->list);
    tern_free(p->ends);
    *p = (struct pieces){ 0 };
}

static tern_status end_piece(tern_ctx *ctx, struct pieces *p)
{
    TERN_TRY(TERN_GROW(ctx, &p->ends, &p->capacity, p->count + 1, "the post-processor"));
    p->ends[p->count++] = p->list.count;
    return TERN_OK;
}

/* Appends the items of a piece of `from`; type >= 0 is theirs from now on. */
static tern_status copy_piece(tern_ctx *ctx, struct pieces *to, const struct pieces *from, size_t i, int64_t type)
{
    for (size_t k = i > 0 ? from->ends[i - 1] : 0; k < from->ends[i]; k++) {
        struct tern_post_item item = from->list.items[k];

        item.type = type >= 0 ? (uint32_t)type : item.type;
        TERN_TRY(add_item(ctx, &to->list, item));
    }
    return TERN_OK;
}

static tern_status apply_template(tern_ctx *ctx, const struct tern_post_step *step, const struct pieces *from,
                                  bool special, const char *where, struct pieces *to)
{
    const struct tern_post_list *list = from->count == 2 ? &step->pair : &step->single;

    TERN_REQUIRE(ctx, from->count == 1 || from->count == 2, TERN_ERR_UNSUPPORTED,
                 "%s: post_processor TemplateProcessing comes behind a processor that left %zu pieces, expected 1 or 2",
                 where, from->count);
    for (size_t i = 0; i < list->count; i++) {
        const struct tern_post_item *item = &list->items[i];

        if (item->id >= 0) {
            if (!special)
                continue;
            TERN_TRY(add_item(ctx, &to->list, *item));
        } else {
            const size_t piece = item->id == TERN_POST_FIRST ? 0 : 1;

            TERN_REQUIRE(ctx, piece < from->count, TERN_ERR_FORMAT,
                         "%s: post_processor TemplateProcessing: single names the sequence 'B', expected 'A'", where);
            TERN_TRY(copy_piece(ctx, to, from, piece, item->type));
        }
        TERN_TRY(end_piece(ctx, to));
    }
    return TERN_OK;
}

/* BERT's and RoBERTa's: cls A sep B sep, with one sep more before B in the latter, where all type ids are 0. */
static tern_status apply_pair(tern_ctx *ctx, const struct tern_post_step *step, const struct pieces *from, bool special,
                              struct pieces *to)
{
    const bool roberta = step->kind == TERN_POST_ROBERTA;

    for (size_t i = 0; i < from->count; i++) {
        if (special && (i == 0 || roberta))
            TERN_TRY(tern_post_list_add(ctx, &to->list, i == 0 ? step->cls : step->sep, 0));
        TERN_TRY(copy_piece(ctx, to, from, i, roberta ? 0 : -1));
        if (special)
            TERN_TRY(tern_post_list_add(ctx, &to->list, step->sep, i > 0 && !roberta));
        TERN_TRY(end_piece(ctx, to));
    }
    return TERN_OK;
}

static tern_status trim(tern_ctx *ctx, struct pieces *p, bool prefix_space, const char *where)
{
    for (size_t i = 0; i < p->count; i++) {
        const size_t begin = i > 0 ? p->ends[i - 1] : 0;

        for (size_t k = begin; k < p->ends[i]; k++) {
            struct tern_post_item *item = &p->list.items[k];

            if (item->id >= 0)
                continue;
            TERN_REQUIRE(ctx, item->n_trims < TERN_POST_TRIMS_MAX, TERN_ERR_UNSUPPORTED,
                         "%s: post_processor trims offsets more than %d times", where, TERN_POST_TRIMS_MAX);
            item->trims[item->n_trims].prefix_space = prefix_space;
            item->trims[item->n_trims++].leads = k == begin;
        }
    }
    return TERN_OK;
}

static tern_status apply_step(tern_ctx *ctx, const struct tern_post_step *step, struct pieces *p, bool special,
                              const char *where)
{
    struct pieces next = { 0 };
    tern_status status = TERN_OK;

    if (step->trim_offsets)
        TERN_TRY(trim(ctx, p, step->add_prefix_space, where));
    if (step->kind == TERN_POST_BYTE_LEVEL)
        return TERN_OK;
    if (step->kind == TERN_POST_TEMPLATE)
        TERN_TRY_OR_FAIL(apply_template(ctx, step, p, special, where, &next));
    else
        TERN_TRY_OR_FAIL(apply_pair(ctx, step, p, special, &next));
    destroy_pieces(p);
    *p = next;
    return TERN_OK;

fail:
    destroy_pieces(&next);
    return status;
}

static tern_status make_plan(tern_ctx *ctx, const struct tern_post *post, bool pair, bool special, const char *where,
                             struct tern_post_list *out)
{
    struct pieces p = { 0 };
    tern_status status;

    TERN_TRY_OR_FAIL(tern_post_list_add(ctx, &p.list, TERN_POST_FIRST, 0));
    TERN_TRY_OR_FAIL(end_piece(ctx, &p));
    if (pair) {
        TERN_TRY_OR_FAIL(tern_post_list_add(ctx, &p.list, TERN_POST_SECOND, 1));
        TERN_TRY_OR_FAIL(end_piece(ctx, &p));
    }
    for (size_t i = 0; i < post->n_steps; i++)
        TERN_TRY_OR_FAIL(apply_step(ctx, &post->steps[i], &p, special, where));
    *out = p.list;
    p.list = (struct tern_post_list){ 0 };
    status = TERN_OK;

fail:
    destroy_pieces(&p);
    return status;
}

static size_t special_tokens(const struct tern_post_step *step, bool pair)
{
    const struct tern_post_list *list = pair ? &step->pair : &step->single;
    size_t n = 0;

    switch (step->kind) {
    case TERN_POST_TEMPLATE:
        for (size_t i = 0; i < list->count; i++)
            n += list->items[i].id >= 0;
        return n;
    case TERN_POST_BERT:
        return pair ? 3 : 2;
    case TERN_POST_ROBERTA:
        return pair ? 4 : 2;
    case TERN_POST_BYTE_LEVEL:
        break;
    }
    return 0;
}

tern_status tern_post_finish(tern_ctx *ctx, struct tern_post *post, const char *where)
{
    for (size_t i = 0; i < post->n_steps; i++) {
        post->trims = post->trims || post->steps[i].trim_offsets;
        post->n_added[0] += special_tokens(&post->steps[i], false);
        post->n_added[1] += special_tokens(&post->steps[i], true);
    }
    for (int i = 0; i < 4; i++) {
        struct tern_post_list *plan = &post->plan[i / 2][i % 2];
        const tern_status status = make_plan(ctx, post, i / 2 != 0, i % 2 != 0, where, plan);

        /* What nobody asks for may be impossible, but one text with its special tokens is asked for. */
        if (status != TERN_OK && (status != TERN_ERR_UNSUPPORTED || i == 1))
            return status;
        plan->broken = status != TERN_OK;
    }
    return TERN_OK;
}

tern_status tern_post_check(tern_ctx *ctx, const struct tern_post_list *plan)
{
    TERN_REQUIRE(
        ctx, !plan->broken, TERN_ERR_UNSUPPORTED,
        "the tokenizer's post_processor has a TemplateProcessing behind a processor that leaves other than 1 or 2 "
        "pieces of such texts");
    return TERN_OK;
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

tern_status tern_limits_apply(tern_ctx *ctx, const struct tern_limits *limits, bool pair, size_t n_added,
                              const size_t count[2], size_t begin[2], size_t end[2])
{
    const size_t total = count[0] + count[1];
    size_t left[2] = { count[0], count[1] };

    if (limits->truncates && limits->max_length >= n_added && total > limits->max_length - n_added) {
        const size_t max = limits->max_length - n_added, excess = total - max;
        const int only = limits->strategy == TERN_ONLY_SECOND;

        if (max == 0) {
            left[0] = left[1] = 0;
        } else if (limits->strategy != TERN_LONGEST_FIRST) {
            TERN_REQUIRE(ctx, pair || only == 0, TERN_ERR_ARG,
                         "the tokenizer's truncation takes from the second text only, and there is none");
            TERN_REQUIRE(ctx, count[only] > excess, TERN_ERR_ARG,
                         "the tokenizer's truncation takes from the %s text only: %zu tokens of its %zu are too many",
                         only ? "second" : "first", excess, count[only]);
            left[only] = count[only] - excess;
        } else if (!pair) {
            left[0] = max;
        } else {
            const int longer = count[0] <= count[1];
            const size_t shorter = count[!longer];

            left[longer] = shorter > max || max - shorter < shorter ? shorter : max - shorter;
            if (shorter + left[longer] > max) {
                left[!longer] = max / 2;
                left[longer] = max / 2 + max % 2;
            }
        }
        for (int i = 0; i < 2; i++)
            TERN_REQUIRE(ctx, left[i] >= count[i] || left[i] == 0 || limits->stride < left[i], TERN_ERR_ARG,
                         "the tokenizer's truncation has stride %zu, expected less than the %zu tokens that are left",
                         limits->stride, left[i]);
    }
    for (int i = 0; i < 2; i++) {
        left[i] = left[i] < count[i] ? left[i] : count[i];
        begin[i] = limits->from_left ? count[i] - left[i] : 0;
        end[i] = begin[i] + left[i];
    }
    return TERN_OK;
}

size_t tern_limits_padded(const struct tern_limits *limits, size_t count, size_t longest)
{
    size_t to = limits->pad_to > 0 ? limits->pad_to : longest;

    if (!limits->pads)
        return count;
    if (limits->pad_multiple > 0 && to % limits->pad_multiple > 0)
        to += limits->pad_multiple - to % limits->pad_multiple;
    return to > count ? to : count;
}
