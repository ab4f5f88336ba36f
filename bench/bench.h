/* bench.h: what the programs of this folder share: options, ceilings, memory that no cache holds, calls timed in turn, and three forms
 * of an answer.  They see tern as any program does: by its public headers alone.
 *
 * A program names its own options and its table's heading, opens, measures case by case and reports each one:
 *
 *   struct bench b = { .name = "bench_rows", .own = options, .n_own = 2, .heading = "..." };
 *   int status = bench_open(&b, argc, argv);          < 0: go on, else exit with it
 *   for each case: bench_measure(), bench_report()
 *   return bench_close(&b, ok);
 *
 * Messages go to stderr, with the program's name. */
#ifndef BENCH_H
#define BENCH_H

#include "answer.h"

#include <tern/tern.h>

#include <stdbool.h>
#include <stdio.h>

#define BENCH_ROUNDS 4000 /* the most */
#define BENCH_LEAST  7    /* rounds, however long they take */

enum bench_output { BENCH_TABLE, BENCH_JSON, BENCH_CSV };

/* An option of one program: --NAME WORD,..: which of its cases are wanted. */
struct bench_option {
    const char *name;  /* "--rows" */
    const char *all;   /* the words that there are: "1,16,128" */
    const char *given; /* from the command line, of `all` only; NULL: all */
};

struct bench {
    /* from the program */
    const char *name;
    const char *about;   /* one line above a table, behind version, level and threads */
    const char *heading; /* of the table's columns */
    const char *dtypes;  /* that there are: "fp32,bf16" */
    struct bench_option *own;
    size_t n_own;
    /* from the command line: --threads N, --dtype D,.., --ms N, --rotate MIB, --below, --json, --csv, --out FILE */
    int threads;
    const char *dtype; /* of `dtypes`; NULL: all */
    double budget;     /* seconds of one case */
    size_t rotate;     /* bytes that cold memory goes round in, at least */
    bool below;
    enum bench_output output;
    const char *path; /* NULL: none */
    /* made by bench_open() */
    tern_ctx *ctx;
    tern_ceilings ceilings; /* measured by bench_open() and, where wanted, bench_ceilings() */
    struct answer_file out;
    int stdout_number; /* errno of what could not be printed, 0: none */
    size_t reported;
};

/* Parses, makes the context, measures the ceilings.  -1: all is there; else the exit status of a program that ends here (--help, wrong
 * usage, a file or context that cannot be made), having told why. */
int bench_open(struct bench *b, int argc, char **argv);

/* Ends the answer and frees everything.  @return the exit status: 1 if not `ok`, if nothing was reported, or if stdout or the file could
 * not be written, having told which. */
int bench_close(struct bench *b, bool ok);

/* Measures the ceilings anew: a machine's pace changes within minutes. */
bool bench_ceilings(struct bench *b);

/* Whether --dtype names this one, or is not there. */
bool bench_wants(const struct bench *b, const char *dtype);

/* The same of an option's words: itself, a number, AxB. */
bool bench_picks(const struct bench_option *o, const char *word);
bool bench_picks_number(const struct bench_option *o, int number);
bool bench_picks_size(const struct bench_option *o, const int size[2]);

/* The arithmetic ceiling of all threads for products in this dtype. */
double bench_arithmetic(const struct bench *b, tern_dtype dtype);

/* Says on stderr what the context's last call said.  @return false. */
bool bench_failed(const struct bench *b, tern_ctx *ctx);

/* ---- levels ---- */

/* Text that differs between levels: rows (norms, activations, sums), and products by dtype. */
enum bench_text { BENCH_TEXT_ROWS, BENCH_TEXT_FP32, BENCH_TEXT_BF16, BENCH_TEXT_INT8 };

/* The next lower level whose text is another.  NULL: there is none, or (products) it is compiled portable code, which takes minutes. */
const char *bench_level_below(const char *isa, enum bench_text text);

/* A context of that level with as many threads as b has; NULL: it was told why. */
tern_ctx *bench_context(const struct bench *b, const char *isa);

/* ---- memory ---- */

/* Pages of 2 MiB where the system gives them, all touched; NULL: told why.  bench_give() with the same size. */
void *bench_take(const struct bench *b, size_t size);
void bench_give(void *memory, size_t size);

/* Ordinary numbers of either sign, below 1 in size, the same in every run.  fp32, bf16 or fp16. */
void bench_fill(void *data, tern_dtype dtype, size_t count, uint32_t seed);

/* `slots` pieces of memory, used one after the other, so that each comes from memory when its turn is there. */
struct bench_ring {
    unsigned char *memory;
    size_t bytes, slot, slots, next;
};

/* Slots of `size` bytes (rounded up to 64) in more than b->rotate bytes, at least two. */
bool bench_ring_make(const struct bench *b, struct bench_ring *ring, size_t size);
void bench_ring_free(struct bench_ring *ring);
void *bench_ring_next(struct bench_ring *ring);

/* Copies of one packed matrix [k, n] of random numbers, more than b->rotate bytes of them, at least two.  `with` bytes of something
 * else go round together with each copy. */
struct bench_weights {
    tern_weight **copies;
    size_t n_copies;
};
bool bench_weights_make(const struct bench *b, struct bench_weights *w, tern_dtype dtype, int64_t k, int64_t n,
                        size_t with);
void bench_weights_free(struct bench_weights *w);

/* Bytes of one element of a packed matrix. */
size_t bench_weight_bytes(tern_dtype dtype);

/* ---- timing ---- */

/* One way to do something. */
struct bench_call {
    bool (*run)(void *arg); /* false: failed, and told why */
    void *arg;
    double seconds[BENCH_ROUNDS]; /* of each round */
};

struct bench_sample {
    double median, low, high; /* the middle 80 % lie between low and high */
};

/* All calls in turn, round after round, first forwards, then backwards, for b->budget seconds and BENCH_LEAST rounds, after one round
 * that warms up.  So whatever disturbs the machine disturbs all of them.  @return rounds; 0: a call failed. */
int bench_measure(const struct bench *b, struct bench_call *const *calls, size_t n);

/* Something that is done before the first round and whenever calls have taken `pause` seconds since, ceilings sampled for one.  Calls that
 * are short enough to feel what it left in the caches are warmed up again. */
struct bench_between {
    bool (*run)(void *arg); /* false: failed, and told why */
    void *arg;
    double pause;
};
int bench_measure_between(const struct bench *b, struct bench_call *const *calls, size_t n,
                          const struct bench_between *between);

/* Of a clock that only goes forward. */
double bench_seconds(void);

/* Of n >= 1 values, which are sorted in place. */
struct bench_sample bench_sample(double *values, int n);

/* A plain copy of `bytes` bytes, read and written ones together, from slots of its own: what a machine does without computing. */
struct bench_copy {
    struct bench_ring ring;
    size_t half;
};
bool bench_copy_make(const struct bench *b, struct bench_copy *copy, size_t bytes);
void bench_copy_free(struct bench_copy *copy);
bool bench_copy_run(void *copy); /* for bench_call */

/* ---- answers ---- */

/* One column of the answer: a text, or a number where text is NULL (NAN: not known). */
struct bench_field {
    const char *name, *text;
    double number;
};

/* One case: `line` where a table is wanted, else the fields; and these to --out.  Every case of a program has the same fields. */
void bench_report(struct bench *b, const struct bench_field *fields, size_t n, const char *line);

#endif
