/* options.c: parsing by table. */
#include "options.h"

#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_WIDTH 28

void option_texts_free(struct option_texts *texts)
{
    free(texts->data);
    *texts = (struct option_texts){ 0 };
}

static void print_help(const struct command_line *line)
{
    printf("usage: tern %s %s\n\n%s\n\n", line->command, line->arguments, line->about);
    for (size_t i = 0; i <= line->n_options; i++) {
        static const struct option help = { 'h', "help", NULL, "this text", OPTION_FLAG, NULL, NULL, 0, 0, false };
        const struct option *o = i < line->n_options ? &line->options[i] : &help;
        char left[64];
        int n = 0;

        if (o->letter && o->name)
            n = snprintf(left, sizeof(left), "-%c, --%s", o->letter, o->name);
        else if (o->letter)
            n = snprintf(left, sizeof(left), "-%c", o->letter);
        else
            n = snprintf(left, sizeof(left), "    --%s", o->name);
        if (o->value)
            snprintf(left + n, sizeof(left) - (size_t)n, " %s", o->value);
        if (strlen(left) > NAME_WIDTH)
            printf("  %s\n  %-*s  ", left, NAME_WIDTH, "");
        else
            printf("  %-*s  ", NAME_WIDTH, left);
        for (const char *c = o->help; *c; c++) {
            putchar(*c);
            if (*c == '\n')
                printf("  %-*s  ", NAME_WIDTH, "");
        }
        putchar('\n');
    }
    if (line->after)
        printf("\n%s\n", line->after);
}

/* "one|two|three" as "one, two or three". */
static void describe_choice(const char *words, char *out, size_t size)
{
    size_t n = 0;

    for (const char *word = words; *word && n < size;) {
        const size_t length = strcspn(word, "|");
        const char *end = word + length, *before = word == words ? "" : strchr(word, '|') ? ", " : " or ";

        n += (size_t)snprintf(out + n, size - n, "%s%.*s", before, (int)length, word);
        word = *end ? end + 1 : end;
    }
}

/* The place of a word in "one|two|three", -1 if it is not there. */
static int choose(const char *words, const char *value)
{
    const size_t n = strlen(value);

    for (int i = 0;; i++) {
        const size_t length = strcspn(words, "|");

        if (length == n && memcmp(words, value, n) == 0)
            return i;
        if (!words[length])
            return -1;
        words += length + 1;
    }
}

/* "a number >= 0", "a whole number from 1 to 8". */
static void describe(const struct option *o, char *out, size_t size)
{
    const char *what = o->kind == OPTION_NUMBER ? "a number" : "a whole number";

    if (o->kind == OPTION_CHOICE)
        describe_choice(o->value, out, size);
    else if (o->kind == OPTION_SEED)
        snprintf(out, size, "a whole number from 0 to 18446744073709551615");
    else if (o->above && isfinite(o->high))
        snprintf(out, size, "%s above %.10g, at most %.10g", what, o->low, o->high);
    else if (o->above)
        snprintf(out, size, "%s > %.10g", what, o->low);
    else if (isfinite(o->low) && isfinite(o->high))
        snprintf(out, size, "%s from %.10g to %.10g", what, o->low, o->high);
    else if (isfinite(o->low))
        snprintf(out, size, "%s >= %.10g", what, o->low);
    else
        snprintf(out, size, "%s", what);
}

static bool in_range(const struct option *o, double x)
{
    return x <= o->high && (o->above ? x > o->low : x >= o->low);
}

/* Stores a value; false if it is not one that the option takes, or there is no memory for one more of OPTION_TEXTS. */
static bool store(const struct option *o, const char *value)
{
    char *end;

    errno = 0;
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)o->out = true;
        return true;
    case OPTION_TEXT:
        *(const char **)o->out = value;
        return true;
    case OPTION_CHOICE: {
        const int place = choose(o->value, value);

        if (place >= 0)
            *(int *)o->out = place;
        return place >= 0;
    }
    case OPTION_TEXTS: {
        struct option_texts *texts = o->out;
        const char **data = realloc(texts->data, (texts->count + 1) * sizeof(*data));

        if (!data)
            return false;
        texts->data = data;
        texts->data[texts->count++] = value;
        return true;
    }
    case OPTION_INT: {
        const long long x = strtoll(value, &end, 10);

        if (!*value || isspace((unsigned char)*value) || *end || errno || !in_range(o, (double)x))
            return false;
        *(int64_t *)o->out = x;
        return true;
    }
    case OPTION_SEED: {
        const unsigned long long x = strtoull(value, &end, 10);

        if (!isdigit((unsigned char)*value) || *end || errno)
            return false;
        *(uint64_t *)o->out = x;
        return true;
    }
    case OPTION_NUMBER: {
        const double x = strtod(value, &end);

        if (!*value || isspace((unsigned char)*value) || *end || !isfinite((float)x) || !in_range(o, x))
            return false;
        *(float *)o->out = (float)x;
        return true;
    }
    }
    return false;
}

/* The option that an argument names, and the value that is written in the same argument (or NULL). */
static const struct option *find(const struct command_line *line, const char *arg, const char **value)
{
    *value = NULL;
    if (arg[1] == '-') {
        const size_t n = strcspn(arg + 2, "=");

        if (arg[2 + n])
            *value = arg + 2 + n + 1;
        for (size_t i = 0; i < line->n_options; i++) {
            const struct option *o = &line->options[i];

            if (o->name && strlen(o->name) == n && memcmp(o->name, arg + 2, n) == 0)
                return o;
        }
        return NULL;
    }
    for (size_t i = 0; i < line->n_options; i++)
        if (line->options[i].letter == arg[1]) {
            if (arg[2])
                *value = arg + 2;
            return &line->options[i];
        }
    return NULL;
}

enum option_outcome options_parse(const struct command_line *line, int argc, char **argv)
{
    bool ended = false;

    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value;

        if (!ended && strcmp(arg, "--") == 0) {
            ended = true;
            continue;
        }
        if (ended || arg[0] != '-' || !arg[1]) {
            if (!line->model) {
                cli_error(CLI_USAGE, "%s takes no argument, got '%s'", line->command, arg);
                return OPTION_WRONG;
            }
            if (*line->model) {
                cli_error(CLI_USAGE, "%s takes one MODEL, got '%s' and '%s'", line->command, *line->model, arg);
                return OPTION_WRONG;
            }
            *line->model = arg;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(line);
            return OPTION_HELP_SHOWN;
        }

        const struct option *o = find(line, arg, &value);
        char called[64];

        if (!o) {
            cli_error(CLI_USAGE, "%s has no option '%.*s'; 'tern %s --help' lists them", line->command,
                      arg[1] == '-' ? (int)strcspn(arg, "=") : 2, arg, line->command);
            return OPTION_WRONG;
        }
        if (arg[1] == '-')
            snprintf(called, sizeof(called), "--%s", o->name);
        else
            snprintf(called, sizeof(called), "-%c", o->letter);
        if (o->kind == OPTION_FLAG && value) {
            cli_error(CLI_USAGE, "%s takes no value, got '%s'", called, value);
            return OPTION_WRONG;
        }
        if (o->kind != OPTION_FLAG && !value) {
            if (i + 1 == argc) {
                cli_error(CLI_USAGE, "%s wants a value: %s", called, o->value);
                return OPTION_WRONG;
            }
            value = argv[++i];
        }
        if (!store(o, value)) {
            char wanted[128];

            if (o->kind == OPTION_TEXTS) { /* any text is one */
                cli_error(CLI_FAIL, "out of memory for the values of %s", called);
                return OPTION_NO_MEMORY;
            }
            describe(o, wanted, sizeof(wanted));
            cli_error(CLI_USAGE, "%s wants %s, got '%s'", called, wanted, value);
            return OPTION_WRONG;
        }
        if (o->given)
            *o->given = true;
    }
    if (line->model_required && !*line->model) {
        cli_error(CLI_USAGE, "%s wants a MODEL: tern %s %s", line->command, line->command, line->arguments);
        return OPTION_WRONG;
    }
    return OPTION_PARSED;
}

int options_exit(enum option_outcome outcome)
{
    return outcome == OPTION_HELP_SHOWN ? CLI_OK : outcome == OPTION_NO_MEMORY ? CLI_FAIL : CLI_USAGE;
}

bool options_parse_shapes(struct command_line line, const char *const *shape, int argc, char **argv, int *code)
{
    char *shapes = cli_shapes_list();

    line.after = shapes;
    const enum option_outcome outcome = options_parse(&line, argc, argv);
    free(shapes);
    *code = outcome == OPTION_PARSED ? 0 : options_exit(outcome);
    if (outcome == OPTION_PARSED && *line.model && *shape)
        *code = cli_error(CLI_USAGE, "%s takes a MODEL or --shape, got both: '%s' and '%s'", line.command, *line.model,
                          *shape);
    return outcome == OPTION_PARSED && !*code;
}
