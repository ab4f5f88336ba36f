/* tags.h: labels of tokens, and the entities that they form. */
#ifndef TERN_CLI_TAGS_H
#define TERN_CLI_TAGS_H

#include "text_options.h"

/* tern classify for a model of TERN_TASK_TAG.  tokens: each token that is labelled other than O, else entities: neighbours of one
 * label, as transformers' pipeline forms them with aggregation_strategy "simple". */
int tags_run(const struct text_options *o, tern_ctx *ctx, bool tokens);

#endif
