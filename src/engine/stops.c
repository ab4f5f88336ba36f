/* stops.c: strings that end a text, found as it arrives.
 *
 * One Knuth-Morris-Pratt automaton per string: its state is the length of the longest beginning of the string with which
 * the text so far ends.  So the longest state is what must be held back, a full one is a match, and each byte costs
 * amortised constant time per string, whatever the strings look like. */
#include "engine/stops.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <string.h>

struct stop {
    const char *text;
    size_t size;
    size_t *border; /* [size]: of text[0..i], the longest proper beginning that is also its end */
    size_t state;
};

struct tern_stops {
    size_t n;
    size_t *borders; /* storage of all of them */
    struct stop list[];
};

/* The state after `state` and one more byte. */
static size_t next_state(const struct stop *s, size_t state, char byte)
{
    while (state > 0 && s->text[state] != byte)
        state = s->border[state - 1];
    return s->text[state] == byte ? state + 1 : 0;
}

tern_status tern_stops_create(tern_ctx *ctx, const char *const *strings, size_t n, struct tern_stops **out)
{
    struct tern_stops *stops = NULL;
    size_t total = 0, bytes, bad;
    void *memory;
    tern_status status;

    *out = NULL;
    TERN_REQUIRE(ctx, strings || n == 0, TERN_ERR_ARG, "generate: n_stop is %zu and stop is NULL", n);
    for (size_t i = 0; i < n; i++) {
        TERN_REQUIRE(ctx, strings[i] && *strings[i], TERN_ERR_ARG, "generate: stop string %zu is %s", i,
                     strings[i] ? "empty" : "NULL");
        const size_t size = strlen(strings[i]);
        TERN_REQUIRE(ctx, tern_utf8_check(strings[i], size, &bad), TERN_ERR_ARG,
                     "generate: stop string %zu is no UTF-8 at byte %zu", i, bad);
        total += size;
    }
    TERN_REQUIRE(ctx, tern_size_mul(n, sizeof *stops->list, &bytes) && tern_size_add(bytes, sizeof *stops, &bytes),
                 TERN_ERR_MEMORY, "out of memory: %zu stop strings", n);
    TERN_TRY(tern_alloc(ctx, 1, bytes, "stop strings", &memory));
    stops = memory;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, total, "stop strings", &stops->borders));

    size_t *border = stops->borders;
    for (size_t i = 0; i < n; i++) {
        struct stop *s = &stops->list[stops->n++];
        *s = (struct stop){ .text = strings[i], .size = strlen(strings[i]), .border = border };
        for (size_t b = 1; b < s->size; b++)
            border[b] = next_state(s, border[b - 1], s->text[b]);
        border += s->size;
    }
    *out = stops;
    return TERN_OK;

fail:
    tern_stops_destroy(&stops);
    return status;
}

void tern_stops_destroy(struct tern_stops **stops)
{
    if (!*stops)
        return;
    tern_free((*stops)->borders);
    tern_free(*stops);
    *stops = NULL;
}

bool tern_stops_read(struct tern_stops *stops, const char *text, size_t size, size_t *end, size_t *length)
{
    *length = 0;
    for (size_t i = 0; i < size; i++) {
        for (size_t j = 0; j < stops->n; j++) {
            struct stop *s = &stops->list[j];
            s->state = next_state(s, s->state, text[i]);
            if (s->state == s->size && s->size > *length)
                *length = s->size;
        }
        if (*length > 0) {
            *end = i + 1;
            return true;
        }
    }
    return false;
}

size_t tern_stops_held(const struct tern_stops *stops)
{
    size_t held = 0;

    for (size_t i = 0; i < stops->n; i++)
        if (stops->list[i].state > held)
            held = stops->list[i].state;
    return held;
}
