/* module_list.h: modules.json, by which sentence-transformers says of what a directory is made.
 *
 *   [{ "idx", "name", "path", "type" }, ..]   type: the class, sentence_transformers.models.Transformer for instance;
 *                                             path: its folder in the directory, "" for the directory itself
 *
 * Source: sentence-transformers 6.2, base/model.py. */
#ifndef TERN_MODEL_MODULE_LIST_H
#define TERN_MODEL_MODULE_LIST_H

#include "base/json.h"

/* Module `index` of the array that `json` is: its class, borrowed, and its folder, freed with tern_free(); both NULL on error.
 * TERN_ERR_FORMAT (also: a path that leaves the directory, a name that another module has), TERN_ERR_MEMORY. */
tern_status tern_module_entry(tern_ctx *ctx, const char *dir, const struct tern_json *json, size_t index,
                              const char **type, char **folder);

/* "Transformer" of sentence_transformers' class, wherever in the package; of another package's, which is code of its own, all of it. */
const char *tern_module_class(const char *type);

#endif
