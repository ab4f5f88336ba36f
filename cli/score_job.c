/* score_job.c: see score_job.h. */
#include "score_job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int score_job_open(struct score_job *j, tern_ctx *ctx, const struct text_options *o)
{
    const tern_model_options options = text_model_options(o);
    const tern_status status = tern_scorer_open(ctx, o->model, &options, &j->scorer);

    j->ctx = ctx;
    cli_progress_end();
    if (status)
        return cli_fail(status, tern_error(j->ctx));
    j->n_labels = (size_t)tern_model_get_config(tern_scorer_model(j->scorer))->n_labels;
    return 0;
}

int score_job_run(struct score_job *j, const struct text_options *o, const char *query)
{
    static char scoring[] = "scoring";
    const size_t n = j->lines.n;
    uint64_t n_cut = 0;
    const tern_score_options options = { .query = query,
                                         .query_size = query ? strlen(query) : 0,
                                         .cut = o->cut,
                                         .progress = text_progress,
                                         .user = o->quiet ? NULL : scoring,
                                         .n_cut = &n_cut };

    j->scores = malloc((n * j->n_labels + 1) * sizeof *j->scores);
    if (!j->scores)
        return cli_error(CLI_FAIL, "out of memory: scores of %zu texts", n);
    const tern_status status = tern_score(j->scorer, j->lines.lines, j->lines.sizes, n, &options, j->scores);
    cli_progress_end();
    if (status)
        return cli_fail(status, tern_error(j->ctx));
    text_tell_cut(n_cut, n, tern_scorer_max_tokens(j->scorer));
    return 0;
}

void score_job_close(struct score_job *j)
{
    tern_scorer_close(&j->scorer);
    text_lines_free(&j->lines);
    free(j->scores);
}

double score_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
