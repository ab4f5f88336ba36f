/* template.h: the language of chat templates: Jinja2's, as transformers sets it up.
 *
 * transformers renders with jinja2's ImmutableSandboxedEnvironment, trim_blocks and lstrip_blocks on, the extensions
 * loopcontrols and generation, its own tojson, raise_exception, strftime_now, dict and namespace, and no loader: so there are no
 * extends, include and import here.  What is rendered is what jinja2 3.1.6 renders, byte for byte; docs/chat.md has what is left
 * out, and each of that is an error by name when the template is parsed.
 *
 * Nothing in a template can reach outside of it: there are no files, no environment, no clock but strftime_now(). */
#ifndef TERN_TEXT_TEMPLATE_H
#define TERN_TEXT_TEMPLATE_H

#include "base/ctx.h"
#include "base/json.h"

#define TERN_TEMPLATE_SOURCE_MAX ((size_t)1 << 20) /* bytes of a template; the longest published ones have 30,000 */
#define TERN_TEMPLATE_NESTING    200               /* parentheses, blocks and operators within one another */

struct tern_template;

struct tern_template_limits {
    uint64_t steps; /* nodes of the tree visited, elements gone through, 64 bytes searched */
    unsigned depth; /* levels of calls, of nested values, and of the tree */
    size_t output;  /* bytes written */
    size_t memory;  /* bytes of values */
};
struct tern_template_limits tern_template_limits_default(void);

/* One variable that a rendering starts with. */
enum tern_variable_kind {
    TERN_VARIABLE_NONE,
    TERN_VARIABLE_BOOL,
    TERN_VARIABLE_TEXT,
    TERN_VARIABLE_JSON,
    /* An array of objects.  What one of them has under reasoning_content, thinking or reasoning, it has under the first two, as transformers
     * sees to for templates that ask for either. */
    TERN_VARIABLE_MESSAGES
};
struct tern_variable {
    const char *name;
    enum tern_variable_kind kind;
    const tern_json_value *json; /* borrowed for the rendering */
    const char *text;
    bool truth;
};

/* name: for errors, "NAME, line 3: ...".  TERN_ERR_FORMAT (syntax), TERN_ERR_UNSUPPORTED (a tag, filter, test, function or method by
 * name), TERN_ERR_CAPACITY (length, nesting), TERN_ERR_MEMORY.  The template is read-only afterwards: threads share it. */
tern_status tern_template_parse(tern_ctx *ctx, const char *name, const char *source, size_t size,
                                struct tern_template **out);
void tern_template_destroy(struct tern_template *t); /* NULL is fine */

/* *text: NUL-terminated, freed by tern_free.  now: seconds since 1970 for strftime_now().
 * TERN_ERR_ARG (the template raised an exception: its words), TERN_ERR_FORMAT (an operation that its values do not have),
 * TERN_ERR_CAPACITY (a limit, by name), TERN_ERR_UNSUPPORTED, TERN_ERR_MEMORY. */
tern_status tern_template_render(tern_ctx *ctx, const struct tern_template *t, const struct tern_variable *variables,
                                 size_t n_variables, const struct tern_template_limits *limits, int64_t now,
                                 char **text, size_t *size);

#endif
