/* text_options.c: see text_options.h. */
#include "text_options.h"

#include <inttypes.h>

bool text_progress(void *user, uint64_t done, uint64_t total)
{
    if (user)
        cli_progress(user, done, total);
    return !cli_signal();
}

tern_model_options text_model_options(const struct text_options *o)
{
    static char loading[] = "loading";
    tern_model_options options = tern_model_options_default();

    options.dtype = (tern_model_dtype)o->dtype;
    options.progress = text_progress;
    options.user = o->quiet ? NULL : loading;
    options.comm = ranks_comm();
    return options;
}

int text_run(const struct text_options *o, int (*run)(void *user, tern_ctx *ctx), void *user)
{
    const struct ranks_job job = { .model = o->model, .dtype = o->dtype, .run = run, .user = user };

    return ranks_run(o->tp, o->threads, &job);
}

void text_tell_cut(uint64_t n_cut, size_t n, int32_t max_tokens)
{
    if (n_cut)
        fprintf(stderr, "tern: %" PRIu64 " of %zu texts have more than %" PRId32 " tokens and were cut there\n", n_cut,
                n, max_tokens);
}
