/* op_subject.c: what tern op can run, and its --help. */
#include "cli.h"
#include "op_job.h"
#include "op_modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool operator_at(int index, const char *name, struct op_subject *out)
{
    tern_op_description op;

    if (!tern_op_describe(index, &op))
        return false;
    *out = (struct op_subject){ .name = name ? name : op.name,
                                .formula = op.formula,
                                .tensors = op.tensors,
                                .n_tensors = op.n_tensors,
                                .index = index,
                                .run = op_run_plain };
    if (strcmp(op.name, "workspace") == 0) {
        out->printed = true;
        out->run = op_run_printed;
    }
    if (strcmp(op.name, "kv_copy") == 0)
        out->notes =
            "T, the positions of the results: P + S, where the S new ones follow the P of the past (0 without one);\n"
            "P, where position_ids says which of the past's positions they take.\n";
    if (strcmp(op.name, "softmax_context") == 0) {
        out->around = op_cache_tensors;
        out->n_around = OP_CACHE_TENSORS;
        out->run = op_run_softmax_context;
    }
    return true;
}

static bool module_at(int i, struct op_subject *out)
{
    if (i < 0 || (size_t)i >= op_n_modules)
        return false;
    *out = op_modules[i];
    return true;
}

bool op_subject_at(int i, struct op_subject *out)
{
    return i < tern_op_count() ? operator_at(i, NULL, out) : module_at(i - tern_op_count(), out);
}

bool op_subject_find(const char *name, struct op_subject *out)
{
    for (int i = 0; module_at(i, out); i++)
        if (strcmp(out->name, name) == 0)
            return true;
    return operator_at(tern_op_find(name), name, out);
}

/* ---- --help ---- */

static const char *type_text(const tern_op_tensor *t)
{
    switch (t->type) {
    case TERN_OP_ACTIVATION:
        return "A";
    case TERN_OP_VECTOR:
        return "A or float32";
    case TERN_OP_MATRIX:
        return "W";
    case TERN_OP_MASK:
        return "A or float32, bool, integers";
    case TERN_OP_SCALE:
    case TERN_OP_FP32:
        return "float32";
    case TERN_OP_INTS:
        return t->output ? "int32" : "int32 or int64";
    case TERN_OP_INT64:
        return "int64";
    case TERN_OP_BOOL:
        return "bool";
    case TERN_OP_ANY:
        break;
    }
    return "any that the formula takes";
}

static void help_tensor(FILE *f, const tern_op_tensor *t)
{
    fprintf(f, "  %-5s %-18s %-22s %s%s", t->output ? "--out" : "--in", t->name, t->shape, type_text(t),
            t->optional ? "  (may be left out)" : "");
    if (t->also)
        fprintf(f, "  (also: %s)", t->also);
    fputc('\n', f);
}

static bool reads(int index, const char *name)
{
    tern_op_key key;

    for (int k = 0; tern_op_key_at(index, k, &key); k++)
        if (strcmp(key.name, name) == 0)
            return true;
    return false;
}

static void help_subject(FILE *f, const struct op_subject *s)
{
    bool matrix = false, activation = false;
    tern_op_key key;

    fprintf(f, "%s: %s\n\ntensors:\n", s->name, s->formula);
    for (size_t i = 0; i < s->n_tensors; i++) {
        matrix |= s->tensors[i].type == TERN_OP_MATRIX;
        activation |= s->tensors[i].type == TERN_OP_ACTIVATION;
        help_tensor(f, &s->tensors[i]);
    }
    for (size_t i = 0; i < s->n_around; i++)
        help_tensor(f, &s->around[i]);
    if (activation)
        fputs(
            "\nA, what activations are stored in: float16 where dtype is fp16, float32 where it is fp32 or bf16 (then "
            "rounded "
            "to bf16\non input), and with int8 that of activation_dtype.\n",
            f);
    if (matrix)
        fputs("W, a matrix: float16 where dtype is fp16; float32 where it is bf16; either where it is fp32; int8 with "
              "its "
              "NAME_scale,\nG values for G runs of neighbouring output channels, where it is int8.  [in, out], or "
              "[out, in] "
              "with transposed_mode.\n",
              f);
    if (s->notes)
        fputs(s->notes, f);
    fputs("\nkeys:\n", f);
    for (int k = 0; tern_op_key_at(s->index, k, &key); k++)
        fprintf(f, "  %-32s %s (%s; default %s)\n", key.name, key.about, key.values, key.standard);
    if (reads(s->index, "gelu") || reads(s->index, "rotate_every_two") || reads(s->index, "activation"))
        fputs("\ndefaults that decide results:\n", f);
    if (reads(s->index, "gelu") || reads(s->index, "activation"))
        fputs("  gelu unset              tanh in bias_gelu, mlp_gemm, gelu_gemm and modules; erf in gelu, matmul, "
              "moe_gemm and "
              "gated GELU\n",
              f);
    if (reads(s->index, "rotate_every_two"))
        fputs("  rotate_every_two unset  the opposite of rotate_half; both true is an error\n", f);
}

static void help_list(FILE *f)
{
    struct op_subject s;

    fputs("operators, kernel functions and modules:\n", f);
    for (int i = 0; op_subject_at(i, &s); i++)
        fprintf(f, "  %-20s %s\n", s.name, s.formula);
    fputs("\n'tern op NAME --help' lists the tensors and keys of one.\n", f);
}

char *op_help(const struct op_subject *subject)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    if (subject)
        help_subject(f, subject);
    else
        help_list(f);
    fputs("\nAll other fields of a config are accepted, and without effect here.  Without effect "
          "anywhere:\n" CLI_WITHOUT_EFFECT ".",
          f);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}
