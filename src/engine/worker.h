/* worker.h: what ranks other than 0 do. */
#ifndef TERN_ENGINE_WORKER_H
#define TERN_ENGINE_WORKER_H

#include <tern/session.h>
#include <tern/worker.h>

/* Who looks at what this rank computes. */
struct tern_worker_watch {
    /* After each step that rank 0 has made, or NULL: `session` is this rank's, with the step's scores if it went well. */
    void (*step)(void *user, const tern_session *session, tern_status step);
    /* After each pass of an encoder, or NULL: states [n_ids, H], answers [n_answers, C]. */
    void (*pass)(void *user, const float *states, size_t n_ids, const float *answers, size_t n_answers);
    void *user;
};

/* tern_worker_run(), watched; watch may be NULL. */
tern_status tern_worker_serve(tern_ctx *ctx, const tern_model *model, const struct tern_worker_watch *watch);

#endif
