/* charsmap.h: SentencePiece's table of replacements, a double-array trie (Aoe 1989; darts-clone's form of it).
 *
 * The bytes are: u32 size of the trie in bytes; the trie, u32 each; texts that end with a NUL.  All little-endian. */
#ifndef TERN_TEXT_CHARSMAP_H
#define TERN_TEXT_CHARSMAP_H

#include "base/ctx.h"

struct tern_charsmap;

/* From the table's bytes, which are copied.  TERN_ERR_FORMAT (sizes that contradict each other, texts that are not
 * UTF-8; `where` names the file), TERN_ERR_MEMORY.  A trie that leads out of itself finds nothing there, nor does one whose
 * key ends, or whose replacement begins, within a character: what was UTF-8 stays so. */
tern_status tern_charsmap_create(tern_ctx *ctx, const char *bytes, size_t size, const char *where,
                                 struct tern_charsmap **out);
/* The same from base64, as tokenizer.json has it. */
tern_status tern_charsmap_create_base64(tern_ctx *ctx, const char *text, size_t size, const char *where,
                                        struct tern_charsmap **out);
void tern_charsmap_destroy(struct tern_charsmap *map);

/* The replacement of the shortest key that text[0..size) begins with, or of the longest; NULL without one.  *used gets
 * the key's size.  A NUL in the text ends the search. */
const char *tern_charsmap_find(const struct tern_charsmap *map, const char *text, size_t size, bool longest,
                               size_t *used, size_t *out_size);

#endif
