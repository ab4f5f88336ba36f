/* token_job.h: what tern fill and tern classify share for models that answer for tokens: lines of text through an encoder, a few at a
 * time, and what is to be printed of them, composed whole before any of it is. */
#ifndef TERN_CLI_TOKEN_JOB_H
#define TERN_CLI_TOKEN_JOB_H

#include "json_out.h"
#include "text_options.h"

struct token_job {
    const struct text_options *options;
    tern_ctx *ctx;
    tern_model *model;
    tern_tokenizer *tokenizer;
    tern_encoder *encoder;
    struct text_lines lines;
    int32_t limit;  /* tokens of a text */
    int32_t wanted; /* the id whose tokens' answers are wanted; -1: all tokens' */
    uint64_t n_cut;

    FILE *out; /* what is printed at the end */
    char *text;
    size_t size;
    struct json_out json; /* on out */
};

/* Writes what the model says of line `line` to job->out: `n` rows of tern_model_outputs() scores, of the tokens at `places`. */
typedef int token_line_fn(void *user, struct token_job *job, size_t line, const tern_encoding *tokens,
                          const int32_t *places, size_t n, const float *scores);

/* Each returns 0 or the exit code.  The close is called once in any case, and leaves ctx to its owner. */
int token_job_open(struct token_job *job, tern_ctx *ctx, const struct text_options *o);
int token_job_run(struct token_job *job, token_line_fn *each, void *user);
int token_job_print(struct token_job *job);
void token_job_close(struct token_job *job);

/* The probability of each of n scores. */
void token_softmax(const float *scores, size_t n, double *out);

#endif
