/* worker.h: what ranks other than 0 do. */
#ifndef TERN_ENGINE_WORKER_H
#define TERN_ENGINE_WORKER_H

#include <tern/session.h>
#include <tern/worker.h>

/* After each step that rank 0 has made: `session` is this rank's, with the step's scores if it went well. */
typedef void tern_worker_watch(void *user, const tern_session *session, tern_status step);

/* tern_worker_run(), watched; watch may be NULL. */
tern_status tern_worker_serve(tern_ctx *ctx, const tern_model *model, tern_worker_watch *watch, void *user);

#endif
