/* template_render.h: one rendering: its limits, its memory, where it is. */
#ifndef TERN_TEXT_TEMPLATE_RENDER_H
#define TERN_TEXT_TEMPLATE_RENDER_H

#include "text/template.h"
#include "text/template_node.h"
#include "text/template_value.h"

struct tern_scope;

enum tern_jump { TERN_JUMP_NONE, TERN_JUMP_BREAK, TERN_JUMP_CONTINUE };

struct tern_render {
    tern_ctx *ctx;
    const struct tern_template *tmpl;
    const struct tern_template_limits *limits;
    struct tern_pool pool;
    uint64_t steps; /* taken so far */
    unsigned depth; /* of calls of the interpreter into itself */
    uint32_t line;  /* of the statement or expression at work */
    size_t output;  /* bytes written so far, to whatever buffer */
    struct tern_out *out;
    struct tern_scope *scope;
    struct tern_scope *root; /* what the caller gave */
    enum tern_jump jump;
    int64_t now; /* seconds since 1970, for strftime_now */
};

/* Records "NAME, line N: TEXT". */
tern_status tern_render_fail(struct tern_render *r, tern_status status, const char *format, ...) TERN_PRINTF(3, 4);
/* `n` elementary steps are about to be done. */
tern_status tern_render_spend(struct tern_render *r, uint64_t n);
/* One level deeper; tern_render_leave() goes back up (only after TERN_OK). */
tern_status tern_render_enter(struct tern_render *r);
static inline void tern_render_leave(struct tern_render *r)
{
    r->depth--;
}

/* A mistake in what the template computes. */
#define TERN_RAISE(r, ...) return tern_render_fail((r), TERN_ERR_FORMAT, __VA_ARGS__)

#define TERN_RENDER_TAKE(r, count, out) TERN_POOL_TAKE((r)->ctx, &(r)->pool, (count), (out))

/* ---- template_eval.c ---- */
tern_status tern_eval(struct tern_render *r, const struct tern_node *node, tern_value *out);
tern_status tern_eval_call(struct tern_render *r, const struct tern_node_args *args, struct tern_call *out);
/* Calls anything; an error where it cannot be called. */
tern_status tern_value_call(struct tern_render *r, tern_value callee, const struct tern_call *call, tern_value *out);
/* Using an undefined value: an error that says why it is undefined. */
tern_status tern_undefined_used(struct tern_render *r, tern_value v);

/* ---- template_members.c ---- */
/* Gets a value out of an object: obj.name, obj[key], obj[start:stop:step] (each may be none). */
tern_status tern_value_getattr(struct tern_render *r, tern_value obj, const struct tern_vstring *name, tern_value *out);
tern_status tern_value_getitem(struct tern_render *r, tern_value obj, tern_value key, tern_value *out);
tern_status tern_value_slice(struct tern_render *r, tern_value v, tern_value start, tern_value stop, tern_value step,
                             tern_value *out);

/* ---- template_arithmetic.c ---- */
tern_status tern_value_binary(struct tern_render *r, enum tern_operator op, tern_value a, tern_value b,
                              tern_value *out);
tern_status tern_value_unary(struct tern_render *r, enum tern_operator op, tern_value v, tern_value *out);
tern_status tern_value_compare(struct tern_render *r, enum tern_operator op, tern_value a, tern_value b, bool *out);

/* ---- template_exec.c ---- */
tern_status tern_exec(struct tern_render *r, struct tern_node *const *body, size_t n);
tern_status tern_macro_call(struct tern_render *r, const struct tern_vmacro *macro, const struct tern_call *call,
                            tern_value *out);
tern_status tern_loop_attribute(struct tern_render *r, struct tern_vloop *loop, const struct tern_vstring *name,
                                tern_value *out, bool *found);
tern_status tern_loop_call(struct tern_render *r, struct tern_vloop *loop, const struct tern_call *call,
                           tern_value *out);
tern_status tern_loop_changed(struct tern_render *r, struct tern_vloop *loop, const struct tern_call *call,
                              tern_value *out);
tern_status tern_loop_cycle(struct tern_render *r, struct tern_vloop *loop, const struct tern_call *call,
                            tern_value *out);
tern_status tern_loop_describe(struct tern_render *r, struct tern_vloop *loop, struct tern_out *out);
const struct tern_vstring *tern_macro_name(const struct tern_vmacro *macro); /* NULL: a call block's */
/* A variable as the innermost scope sees it; NULL where there is none. */
tern_status tern_scope_find(struct tern_render *r, const struct tern_vstring *name, const tern_value **out);
tern_status tern_scope_set(struct tern_render *r, struct tern_scope *scope, const struct tern_vstring *name,
                           tern_value value);

/* ---- arguments ----
 * Binds a call's arguments to `n` parameters, names as "width, first, blank" in order, the first n_required of them required.  What is
 * not given is absent (tern_value_is_absent).  `what` names the callee in errors. */
tern_status tern_call_bind(struct tern_render *r, const char *what, const struct tern_call *call, const char *names,
                           size_t n_required, tern_value *values, size_t n);

/* ---- what has a name ---- */
typedef tern_status tern_filter_fn(struct tern_render *r, tern_value v, const struct tern_call *call, tern_value *out);
struct tern_filter {
    const char *name;
    tern_filter_fn *run;
};
const struct tern_filter *tern_filter_find(const char *name, size_t size); /* NULL: unknown */

typedef tern_status tern_test_fn(struct tern_render *r, tern_value v, const struct tern_call *call, bool *out);
struct tern_test {
    const char *name;
    tern_test_fn *run;
};
const struct tern_test *tern_test_find(const char *name, size_t size);

typedef tern_status tern_function_fn(struct tern_render *r, const struct tern_call *call, tern_value *out);
struct tern_function {
    const char *name;
    tern_function_fn *run;
};
const struct tern_function *tern_function_find(const char *name, size_t size);

typedef tern_status tern_method_fn(struct tern_render *r, tern_value self, const struct tern_call *call,
                                   tern_value *out);
struct tern_method {
    enum tern_value_kind kind; /* of the object */
    const char *name;
    tern_method_fn *run; /* NULL: Python has it and tern does not, or it changes its object */
    bool changes;        /* its object: the sandbox has none of these */
};
const struct tern_method *tern_method_find(enum tern_value_kind kind, const char *name, size_t size);
/* Whether any type has a method of that name that tern has, or one that the sandbox takes away. */
bool tern_method_known(const char *name, size_t size);

/* ---- strings, template_strings.c ---- */
enum tern_case {
    TERN_CASE_UPPER,
    TERN_CASE_LOWER,
    TERN_CASE_TITLE,
    TERN_CASE_CAPITALIZE,
    TERN_CASE_SWAP,
    TERN_CASE_FOLD
};
tern_status tern_string_case(struct tern_render *r, const struct tern_vstring *s, enum tern_case how, tern_value *out);
bool tern_char_is_python_space(uint32_t code); /* str.isspace() */
/* What Python's repr shows as it is. */
bool tern_char_is_printable(uint32_t code);
/* isupper(), islower() */
tern_status tern_string_is_cased(struct tern_render *r, const struct tern_vstring *s, bool upper, bool *out);
/* Code points [from, to) of a string; both within it. */
tern_status tern_string_part(struct tern_render *r, const struct tern_vstring *s, size_t from, size_t to,
                             tern_value *out);
tern_status tern_string_strip(struct tern_render *r, const struct tern_vstring *s, const struct tern_vstring *chars,
                              bool left, bool right, tern_value *out);
tern_status tern_string_replace(struct tern_render *r, const struct tern_vstring *s, const struct tern_vstring *old,
                                const struct tern_vstring *fresh, int64_t count, tern_value *out);
tern_status tern_string_lines(struct tern_render *r, const struct tern_vstring *s, bool keep_ends, tern_value *out);
tern_status tern_string_join(struct tern_render *r, const struct tern_vstring *separator, tern_value items,
                             bool any_type, tern_value *out);
/* Byte offset of needle in s at or after `from`, SIZE_MAX: not there. */
size_t tern_string_search(const struct tern_vstring *s, size_t from, const struct tern_vstring *needle);
/* Splits at single separators, or at white space where it is NULL; at most `limit` cuts, -1: no limit. */
tern_status tern_string_split(struct tern_render *r, const struct tern_vstring *s, const struct tern_vstring *separator,
                              int64_t limit, bool from_right, tern_value *out);

/* ---- numbers, template_numbers.c ---- */
/* TERN_ERR_UNSUPPORTED for a text with digits of other scripts, which Python reads as numbers too. */
tern_status tern_check_digits(struct tern_render *r, const struct tern_vstring *s);
/* int(text, base), float(text): false where Python raises ValueError. */
tern_status tern_int_parse(struct tern_render *r, const struct tern_vstring *s, int64_t base, int64_t *out, bool *ok);
bool tern_float_parse(const struct tern_vstring *s, double *out);
/* "%s and %d" % values. */
tern_status tern_string_percent(struct tern_render *r, const struct tern_vstring *s, tern_value values,
                                tern_value *out);
/* "{} and {name}".format(...). */
tern_status tern_string_format(struct tern_render *r, const struct tern_vstring *s, const struct tern_call *call,
                               tern_value *out);

#endif
