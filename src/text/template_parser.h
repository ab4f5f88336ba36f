/* template_parser.h: what the parts of the parser share: tokens, nodes and lists in the making, expressions. */
#ifndef TERN_TEXT_TEMPLATE_PARSER_H
#define TERN_TEXT_TEMPLATE_PARSER_H

#include "text/template_lexer.h"
#include "text/template_render.h"

/* A call of something whose name is only good if the template gives it a meaning somewhere. */
struct tern_pending {
    const struct tern_vstring *name;
    uint32_t line;
    bool method;
};

struct tern_parser {
    tern_ctx *ctx;
    struct tern_template *t;
    struct tern_lexer lexer;
    struct tern_template_token token, ahead;
    bool has_ahead;
    unsigned depth; /* of the parser's own recursion */
    unsigned loops; /* that a break would leave */
    struct tern_pending *pending;
    size_t n_pending, pending_capacity;
};

/* A growing list of nodes in the template's pool. */
struct tern_nodes {
    struct tern_node **data;
    size_t count, capacity;
};

/* Records "NAME, line N: TEXT". */
tern_status tern_parse_fail(struct tern_parser *p, uint32_t line, tern_status status, const char *format, ...)
    TERN_PRINTF(4, 5);
/* One level deeper, within the limit of nesting; p->depth-- goes back up. */
tern_status tern_parse_deeper(struct tern_parser *p);

/* ---- tokens ---- */
tern_status tern_parse_next(struct tern_parser *p);
bool tern_parse_at(const struct tern_parser *p, enum tern_lexeme kind);
bool tern_parse_at_name(const struct tern_parser *p, const char *name);
/* The token is of that kind, or that name, and is skipped; else an error with both. */
tern_status tern_parse_expect(struct tern_parser *p, enum tern_lexeme kind);
tern_status tern_parse_expect_name(struct tern_parser *p, const char *name);
/* The token is a name, and is skipped. */
tern_status tern_parse_take_name(struct tern_parser *p, struct tern_template_token *out);
tern_status tern_parse_skip_name(struct tern_parser *p, const char *name, bool *there);
/* The token behind the one at work. */
tern_status tern_parse_look(struct tern_parser *p, const struct tern_template_token **out);
bool tern_token_is(const struct tern_template_token *t, const char *name);
/* The token in words, for errors. */
const char *tern_token_shown(const struct tern_template_token *t, char out[80]);

/* ---- names and nodes ---- */
tern_status tern_parse_intern(struct tern_parser *p, const char *name, size_t size, const struct tern_vstring **out);
/* The template gives the name a value, or asks whether it has one: a call of it is no mistake that could be known. */
void tern_parse_mean(const struct tern_vstring *name);
/* What else is known of a name that tern_parse_intern() gave. */
struct tern_name *tern_parse_name_of(const struct tern_vstring *name);
/* A call of that name is a mistake unless the template gives it a meaning somewhere. */
tern_status tern_parse_want_meaning(struct tern_parser *p, const struct tern_vstring *name, uint32_t line, bool method);
tern_status tern_node_make(struct tern_parser *p, enum tern_node_kind kind, uint32_t line, struct tern_node **out);
tern_status tern_node_make_with(struct tern_parser *p, enum tern_node_kind kind, uint32_t line, struct tern_node *a,
                                struct tern_node *b, struct tern_node **out);
tern_status tern_node_const(struct tern_parser *p, uint32_t line, tern_value value, struct tern_node **out);
/* Whatever hangs below a node makes it deeper; the limit holds for every tree, so that walking one never runs out of stack. */
tern_status tern_node_deepen(struct tern_parser *p, struct tern_node *n, const struct tern_node *child);
tern_status tern_nodes_push(struct tern_parser *p, struct tern_nodes *list, struct tern_node *n);
/* Hands the list over to a node, which gets as deep as that makes it. */
tern_status tern_nodes_keep(struct tern_parser *p, const struct tern_nodes *list, struct tern_node *owner,
                            struct tern_node ***items, size_t *count);
/* Adds a name to `count` of them, which must not be there yet; `what` it is, for the error. */
tern_status tern_names_push(struct tern_parser *p, const struct tern_vstring ***names, size_t *capacity, size_t count,
                            const struct tern_vstring *name, uint32_t line, const char *what);

/* ---- expressions ---- */
tern_status tern_parse_expression(struct tern_parser *p, struct tern_node **out);
/* Without a condition. */
tern_status tern_parse_or(struct tern_parser *p, struct tern_node **out);
/* A value, its signs and what follows it; with_filter: filters and tests too. */
tern_status tern_parse_unary(struct tern_parser *p, bool with_filter, struct tern_node **out);
/* With a condition (x if y else z); () is one; names and literals alone; name.member too. */
enum { TERN_TUPLE_CONDITION = 1, TERN_TUPLE_PARENTHESES = 2, TERN_TUPLE_SIMPLE = 4, TERN_TUPLE_MEMBERS = 8 };
/* Expressions with commas between them: a tuple, or the one expression. */
tern_status tern_parse_tuple(struct tern_parser *p, unsigned flags, struct tern_node **out);
/* "|name(args)", several of them; begins_inside: the first without its "|", in a filter block. */
tern_status tern_parse_filters(struct tern_parser *p, bool begins_inside, struct tern_node **n);

/* ---- what scopes hide, template_symbols.c ---- */
/* Fills in what each scope of the tree hides. */
tern_status tern_parse_symbols(struct tern_parser *p);

/* ---- statements ---- */
/* Text and tags up to a tag of `ends` (then its name is the token), or to the end of the template where `ends` is NULL. */
tern_status tern_parse_body(struct tern_parser *p, const char *const *ends, struct tern_node *owner,
                            struct tern_node ***items, size_t *count);

#endif
