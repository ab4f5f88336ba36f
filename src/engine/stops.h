/* stops.h: strings that end a text, found as it arrives. */
#ifndef TERN_ENGINE_STOPS_H
#define TERN_ENGINE_STOPS_H

#include <tern/context.h>

struct tern_stops;

/* n strings, borrowed.  TERN_ERR_ARG (one that is empty or no UTF-8, by number), TERN_ERR_MEMORY. */
tern_status tern_stops_create(tern_ctx *ctx, const char *const *strings, size_t n, struct tern_stops **out);
void tern_stops_destroy(struct tern_stops **stops);

/* Reads the next bytes of the text.  True when a string is complete: its last byte is text[*end - 1] and *length its size; of
 * several that end there it is the longest.  What follows is not read, so how the text was cut does not matter. */
bool tern_stops_read(struct tern_stops *stops, const char *text, size_t size, size_t *end, size_t *length);

/* Bytes at the end of the text read so far that may become a stop string. */
size_t tern_stops_held(const struct tern_stops *stops);

#endif
