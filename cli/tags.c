/* tags.c: see tags.h. */
#include "tags.h"

#include "token_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 9

struct tagger {
    bool tokens;
    double *p; /* [labels] */
};

/* Neighbours of one label. */
struct entity {
    const char *label; /* of the first token, with its B- or I- */
    double sum;        /* of probabilities */
    size_t n;
    uint32_t begin, end; /* code points of the line */
};

/* "B-PER" and "I-PER" are of PER; so is "PER", as one that goes on. */
static const char *kind_of(const char *label)
{
    return label[0] && strchr("BI", label[0]) && label[1] == '-' ? label + 2 : label;
}

static const char *label_of(const struct token_job *j, size_t i, char *room, size_t size)
{
    const char *name = tern_model_label(j->model, (int32_t)i);

    if (name)
        return name;
    snprintf(room, size, "LABEL_%zu", i);
    return room;
}

/* Bytes of the first `n` code points. */
static size_t bytes_of(const char *text, size_t size, uint32_t n)
{
    size_t at = 0;

    for (; at < size && (n > 0 || ((unsigned char)text[at] & 0xc0) == 0x80); at++)
        n -= ((unsigned char)text[at] & 0xc0) != 0x80;
    return at;
}

static void write_entity(struct tagger *t, struct token_job *j, size_t line, const struct entity *e)
{
    const char *text = j->lines.lines[line], *label = t->tokens ? e->label : kind_of(e->label);
    const size_t size = j->lines.sizes[line], begin = bytes_of(text, size, e->begin),
                 end = bytes_of(text, size, e->end);

    if (strcmp(label, "O") == 0)
        return;
    if (j->options->json) {
        out_object_begin(&j->json, NULL);
        out_name(&j->json, "label", label);
        out_number(&j->json, "probability", e->sum / (double)e->n, DIGITS);
        out_uint(&j->json, "begin", e->begin);
        out_uint(&j->json, "end", e->end);
        out_text(&j->json, "text", text + begin, end - begin);
        out_object_end(&j->json);
        return;
    }
    fprintf(j->out, "%zu\t%.6f\t", line + 1, e->sum / (double)e->n);
    cli_put_shown(j->out, label);
    fprintf(j->out, "\t%" PRIu32 "\t%" PRIu32 "\t", e->begin, e->end);
    fwrite(text + begin, 1, end - begin, j->out);
    putc('\n', j->out);
}

static int write_line(void *user, struct token_job *j, size_t line, const tern_encoding *tokens, const int32_t *places,
                      size_t n, const float *scores)
{
    const size_t C = (size_t)tern_model_outputs(j->model);
    struct tagger *t = user;
    struct entity e = { .n = 0 };
    char room[2][32];

    if (j->options->json)
        out_array_begin(&j->json, NULL);
    for (size_t i = 0; i < n; i++) {
        const tern_token_range place = tokens->offsets[places[i]];
        const float *row = scores + i * C;
        size_t best = 0;

        if (place.begin == 0 && place.end == 0) /* one that the tokenizer put there */
            continue;
        for (size_t k = 1; k < C; k++)
            best = row[k] > row[best] ? k : best;
        token_softmax(row, C, t->p);
        const char *label = label_of(j, best, room[i % 2], sizeof room[0]);
        const bool goes_on =
            !t->tokens && e.n > 0 && strncmp(label, "B-", 2) != 0 && strcmp(kind_of(label), kind_of(e.label)) == 0;
        if (!goes_on) {
            if (e.n > 0)
                write_entity(t, j, line, &e);
            e = (struct entity){ .begin = place.begin };
        }
        e.label = label;
        e.sum += t->p[best];
        e.n++;
        e.end = place.end;
    }
    if (e.n > 0)
        write_entity(t, j, line, &e);
    if (j->options->json) {
        out_array_end(&j->json);
        putc('\n', j->out);
        j->json.follows = false;
    }
    return 0;
}

int tags_run(const struct text_options *o, tern_ctx *ctx, bool tokens)
{
    struct tagger t = { .tokens = tokens };
    struct token_job j = { 0 };
    int code = text_lines_read(o->command, o->p, o->f, &j.lines);

    if (!code)
        code = token_job_open(&j, ctx, o);
    if (!code && !(t.p = malloc((size_t)tern_model_outputs(j.model) * sizeof *t.p)))
        code = cli_error(CLI_FAIL, "out of memory: %d labels", tern_model_outputs(j.model));
    if (!code)
        code = token_job_run(&j, write_line, &t);
    if (!code)
        code = token_job_print(&j);
    token_job_close(&j);
    free(t.p);
    return code;
}
