/* score_job.h: what tern classify and tern rerank share: lines of text to scores of labels. */
#ifndef TERN_CLI_SCORE_JOB_H
#define TERN_CLI_SCORE_JOB_H

#include "text_options.h"

struct score_job {
    tern_ctx *ctx;
    tern_scorer *scorer;
    struct text_lines lines;
    float *scores; /* [lines][labels] */
    size_t n_labels;
};

/* Opens and reads; each returns 0 or the exit code.  score_job_close() is called once in any case, and leaves ctx to its owner. */
int score_job_open(struct score_job *job, tern_ctx *ctx, const struct text_options *o);
/* query: NULL, or the first text of pairs whose second ones are the lines. */
int score_job_run(struct score_job *job, const struct text_options *o, const char *query);
void score_job_close(struct score_job *job);

double score_sigmoid(double x);

#endif
