/* cli.h: what the commands share: exit codes, error text, signals, input, and opening a model.
 *
 * A function here that can fail returns 0 or the exit code, and has then printed its one line. */
#ifndef TERN_CLI_H
#define TERN_CLI_H

#include <tern/tern.h>

#include <stdarg.h>
#include <stdio.h>

enum { CLI_OK = 0, CLI_FAIL = 1, CLI_USAGE = 2, CLI_UNSUPPORTED = 3, CLI_SIGNAL = 128 };

/* The commands: argv[0] is the command's name. */
int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_detokenize(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_rerank(int argc, char **argv);
int cmd_classify(int argc, char **argv);
int cmd_fill(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_op(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_tune(int argc, char **argv);
int cmd_info(int argc, char **argv);

/* What names in a file, or arguments, have of control characters is shown as \x1B, and reaches no terminal. */
void cli_put_shown(FILE *f, const char *text);
/* One line of the same. */
void cli_print_line(FILE *f, const char *format, va_list args);
/* "tern: TEXT" on stderr; `code` is handed through. */
int cli_error(int code, const char *format, ...) TERN_PRINTF(2, 3);
/* The same for a status with its text: 3 for a model that is not supported, 128 + N where signal N stopped the work (then without
 * a line), 1 for all else. */
int cli_fail(tern_status status, const char *text);

/* ---- signals: SIGINT, SIGTERM and SIGHUP stop the work in progress; the same signal again kills ---- */
void cli_init(void);
/* The signal that arrived, 0 if none did. */
int cli_signal(void);
/* For tern_encode_options: false once one did. */
bool cli_goes_on(void *user);
/* It never arrived, and the next one is caught as the first was. */
void cli_signal_forget(void);
/* The session whose step the handler stops; NULL before it is destroyed. */
void cli_signal_session(tern_session *session);

/* Fields of a config that nothing reads. */
#define CLI_WITHOUT_EFFECT                                                                  \
    "use_triton, stochastic_mode, local_rank, training_mp_size,\nenable_qkv_quantization, " \
    "return_tuple, "                                                                        \
    "return_single_tuple"

/* ---- stdout ---- */
/* Writes and flushes.  false: it failed, and cli_stdout_end() will say why. */
bool cli_print(const char *text, size_t size);
/* Flushes what was printed by other means; what fails cli_stdout_end() says. */
void cli_stdout_flush(void);
/* Flushes and closes stdout: `code`, or 1 where anything could not be written.  A closed pipe is told by the code alone. */
int cli_stdout_end(int code);

/* ---- input ---- */
/* Bytes from -p, else -f ("-" is stdin), else stdin if it is no terminal. */
struct cli_text {
    char *data;
    size_t size;
};
int cli_text_read(const char *command, const char *p, const char *f, struct cli_text *out);
/* Bytes of a file, "-" is stdin.  Where it does not begin with `begin` it is not read to its end, which it may not have; the
 * caller sees by its bytes. */
int cli_file_read(const char *f, const char *begin, struct cli_text *out);
void cli_text_free(struct cli_text *text);
/* "1,2,3" to ids, freed with free(); "" is none. */
int cli_ids_parse(const char *option, const char *text, int32_t **ids, size_t *count);

/* ---- opening ---- */
int cli_context_open(int64_t threads, tern_ctx **out);
/* By name; NULL after a line with those that there are. */
const tern_model_shape *cli_shape_find(const char *name);
/* "Shapes:" and one a line with what it is, for --help; freed with free(), NULL without memory. */
char *cli_shapes_list(void);
/* A directory, a file, or a name in the Hugging Face cache; NULL: the built-in model.  Freed with free(). */
int cli_model_find(tern_ctx *ctx, const char *name, char **path);
/* The same of what an embedder stands on: tern_embedder_find(). */
int cli_transformer_find(tern_ctx *ctx, const char *name, char **path);
/* The same without entering the folder of a sentence-transformers directory's transformer. */
int cli_directory_find(tern_ctx *ctx, const char *name, char **path);
/* As `dtype`, a tern_model_dtype; with a progress bar if `bar` and stderr is a terminal. */
int cli_model_open(tern_ctx *ctx, const char *path, int dtype, bool bar, tern_model **out);
/* The same for a shape, with random weights. */
int cli_model_create(tern_ctx *ctx, const tern_model_shape *shape, int dtype, bool bar, tern_model **out);
/* Tokenizer and model of one directory, at the same time where the context has more than one thread.  Of two failures the model's is reported. */
int cli_open_both(tern_ctx *ctx, const char *path, int dtype, bool bar, tern_tokenizer **tokenizer, tern_model **model);
int cli_session_open(tern_ctx *ctx, const tern_model *model, const tern_session_options *options, tern_session **out);
void cli_session_close(tern_session **session);

/* The directory of the built-in model, freed with free(). */
int cli_builtin_find(char **path);

/* ---- files of results ---- */
/* Whether a file can be put where `file` is to be, or `file` is there and takes bytes (a device): errno tells why not.  Asked before
 * long work, so that it is not done for nothing. */
bool cli_can_write(const char *file);

/* ---- --trace FILE ---- */
/* Records from now on, if there is a FILE; one that cannot be written is told before any work is done. */
int cli_trace_start(tern_ctx *ctx, const char *file);
/* Writes it, also where a signal ended the work; `code`, or that of the failure.  After another failure nothing is written. */
int cli_trace_end(tern_ctx *ctx, const char *file, int code);

/* ---- figures ---- */
double cli_seconds(void);
uint64_t cli_peak_rss(void);
/* "model name" of /proc/cpuinfo. */
void cli_cpu_name(char *out, size_t size);
/* One line on stderr that is drawn over: "LABEL [####    ] 42 %".  Erased by cli_progress_end().  Nothing unless stderr is a
 * terminal. */
void cli_progress(const char *label, uint64_t done, uint64_t total);
void cli_progress_end(void);

#endif
