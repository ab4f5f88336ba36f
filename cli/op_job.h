/* op_job.h: one run of tern op: the tensors by name, the settings, and what is run with them.
 *
 * A function here that can fail returns 0 or the exit code, and has then printed its one line. */
#ifndef TERN_CLI_OP_JOB_H
#define TERN_CLI_OP_JOB_H

#include "options.h"

#include <tern/tern.h>

#define OP_MAX_TENSORS 64

/* One tensor: an input that was read, or an output that will be written.  Owns its numbers. */
struct op_slot {
    const tern_op_tensor *is;
    const char *file;   /* NULL: an output that no one asked for */
    tern_tensor tensor; /* as the operator takes it */
    bool output;
    bool around; /* no tensor of the operator itself, but of the cache around it */
};

struct op_job;

/* What a NAME stands for: an operator or kernel function of the table, or a module. */
struct op_subject {
    const char *name, *formula;
    const char *notes;             /* NULL, or what --help says besides */
    const tern_op_tensor *tensors; /* of the operator */
    size_t n_tensors;
    const tern_op_tensor *around; /* of the cache around it */
    size_t n_around;
    int index;    /* whose keys it has, in the functions of op.h */
    bool printed; /* its results are numbers, which are printed where they go to no file */
    int (*run)(struct op_job *job);
};

struct op_job {
    tern_ctx *ctx;
    struct op_subject subject;
    tern_op_settings settings;
    struct op_slot slots[OP_MAX_TENSORS];
    int n_slots;
};

/* ---- op_subject.c ---- */

bool op_subject_find(const char *name, struct op_subject *out);
/* Subject number i, in the order of lists; false beyond the last. */
bool op_subject_at(int i, struct op_subject *out);
/* Its tensors and keys for --help, freed with free(); NULL: the list of all subjects.  NULL where memory is short. */
char *op_help(const struct op_subject *subject);

/* ---- op_tensors.c ---- */

/* NAME=FILE arguments of --in (their files are read) or --out. */
int op_slots_read(struct op_job *job, const struct option_texts *texts, bool output);
void op_slots_free(struct op_job *job);
/* The tensor of that name; NULL: not given. */
struct op_slot *op_slot_find(struct op_job *job, const char *name, bool output);
/* The same as a view; rank -1: not given. */
tern_tensor op_tensor(struct op_job *job, const char *name);
/* An output of these sizes, zeroed; nothing where it was not asked for. */
int op_output(struct op_job *job, const char *name, tern_dtype dtype, int rank, const int64_t *dim);
/* Memory for a dense tensor whose dtype and sizes are set, zeroed; `name` is for the error. */
int op_allocate(tern_tensor *t, const char *name);
/* Dtype and sizes, for errors. */
#define OP_SHAPE_TEXT 256
void op_shape_text(const tern_tensor *t, char text[OP_SHAPE_TEXT]);
/* Writes all outputs that were asked for: all files, or none. */
int op_slots_write(struct op_job *job);

/* A: what activations are stored in. */
tern_dtype op_activation(const struct op_job *job);
size_t op_elements(const tern_tensor *t);
/* The line for a status of the library. */
int op_fail(const struct op_job *job, tern_status status);

/* ---- op_run.c ---- */

/* A mask [B, n] as [B, 1, 1, n], as the reference takes it, before [S, n]; one number as [1]; others stay. */
void op_mask_fit(struct op_job *job, int64_t batch);

/* An operator whose call is its tensors and parameters. */
int op_run_plain(struct op_job *job);
int op_run_softmax_context(struct op_job *job);
/* One whose outputs are whole numbers: those that go to no file are printed. */
int op_run_printed(struct op_job *job);

/* What the cache around attention takes and gives: past_key, past_value, key, value. */
#define OP_CACHE_TENSORS 4
extern const tern_op_tensor op_cache_tensors[OP_CACHE_TENSORS];

/* A cache of one layer for this run alone, which holds past_key and past_value. */
struct op_cache {
    int64_t batch, rows, past; /* sequences, new and old positions of each */
    int64_t groups, key_dim, value_dim;
    tern_kv_cache *cache;
    tern_kv_span *spans; /* the new rows, reserved */
    size_t n_spans;
};
/* Sizes by the job's config and by the leading axes of `rows` [.., S, C].  op_cache_close() is called in any case. */
int op_cache_open(struct op_job *job, const tern_tensor *rows, struct op_cache *cache);
/* Commits the new rows and fills the outputs key and value. */
int op_cache_show(struct op_job *job, struct op_cache *cache);
void op_cache_close(struct op_cache *cache);

#endif
