/* template_node.h: the tree that a template is parsed into. */
#ifndef TERN_TEXT_TEMPLATE_NODE_H
#define TERN_TEXT_TEMPLATE_NODE_H

#include "text/template_value.h"

enum tern_node_kind {
    /* expressions */
    TERN_N_CONST,    /* value */
    TERN_N_NAME,     /* name */
    TERN_N_MEMBER,   /* name.attr as a target of set: the namespace's name, and attr */
    TERN_N_TUPLE,    /* items */
    TERN_N_LIST,     /* items */
    TERN_N_DICT,     /* items: key, value, key, value */
    TERN_N_AND,      /* a, b */
    TERN_N_OR,       /* a, b */
    TERN_N_NOT,      /* a */
    TERN_N_COMPARE,  /* a, and items: COMPARED */
    TERN_N_COMPARED, /* op, a */
    TERN_N_BINARY,   /* a op b */
    TERN_N_UNARY,    /* op a */
    TERN_N_CONCAT,   /* items */
    TERN_N_CHOICE,   /* b if a else c; c may be NULL */
    TERN_N_GETATTR,  /* a.name */
    TERN_N_GETITEM,  /* a[b] */
    TERN_N_SLICE,    /* of GETITEM's b: a : b : c, each may be NULL */
    TERN_N_CALL,     /* a(args) */
    TERN_N_FILTER,   /* a | filter(args); a is NULL in a filter block: what was written */
    TERN_N_TEST,     /* a is test(args) */
    /* statements */
    TERN_N_TEXT,         /* value */
    TERN_N_PRINT,        /* a */
    TERN_N_FOR,          /* target a in b if c: items, other; flag: recursive */
    TERN_N_IF,           /* branches: BRANCH, and other */
    TERN_N_BRANCH,       /* a: items */
    TERN_N_SET,          /* target a = b */
    TERN_N_SET_BLOCK,    /* target a = items, through the filters b (or NULL) */
    TERN_N_MACRO,        /* name, macro */
    TERN_N_CALL_BLOCK,   /* a is the CALL; macro */
    TERN_N_FILTER_BLOCK, /* items through a */
    TERN_N_WITH,         /* targets and values in turn: branches; items */
    TERN_N_SCOPE,        /* items, in a scope of their own: generation */
    TERN_N_BREAK,
    TERN_N_CONTINUE
};

enum tern_operator {
    TERN_OP_ADD,
    TERN_OP_SUB,
    TERN_OP_MUL,
    TERN_OP_DIV,
    TERN_OP_FLOORDIV,
    TERN_OP_MOD,
    TERN_OP_POW,
    TERN_OP_EQ,
    TERN_OP_NE,
    TERN_OP_LT,
    TERN_OP_LE,
    TERN_OP_GT,
    TERN_OP_GE,
    TERN_OP_IN,
    TERN_OP_NOT_IN
};

struct tern_node;

/* Names that a scope sets itself before anything could read them: what is outside of it by that name is out of reach from its beginning
 * on (template_symbols.c). */
struct tern_hidden {
    const struct tern_vstring **names;
    size_t n;
};

struct tern_node_args {
    struct tern_node **args; /* by position */
    size_t n_args;
    const struct tern_vstring **names; /* of keywords */
    struct tern_node **values;
    size_t n_keywords;
    struct tern_node *more_args, *more_keywords; /* *x and **x, or NULL */
};

/* The parameters and body of a macro or a call block. */
struct tern_node_macro {
    const struct tern_vstring *name; /* NULL: a call block's */
    const struct tern_vstring **params;
    struct tern_node **defaults; /* one per parameter, NULL: none */
    size_t n_params;
    struct tern_node **body;
    size_t n_body;
    bool takes_caller, takes_kwargs, takes_varargs; /* its body names them */
    struct tern_hidden hidden;
};

struct tern_node {
    enum tern_node_kind kind;
    enum tern_operator op;
    uint32_t line;
    uint32_t depth; /* of the tree below, 1 for a leaf */
    bool flag;
    struct tern_node *a, *b, *c;
    struct tern_node **items; /* names may point into the template's table of names */
    size_t n_items;
    struct tern_node **other;
    size_t n_other;
    const struct tern_vstring *name, *attr;
    tern_value value;
    const void *callee; /* struct tern_filter or struct tern_test */
    struct tern_node_args *args;
    struct tern_node_macro *macro;
    struct tern_hidden hidden, hidden_other; /* by the scope of items, and by that of a loop's else */
};

/* An identifier of a template.  There is one for each, so that scopes compare addresses. */
struct tern_name {
    struct tern_vstring text; /* first: what is handed around is the address of this */
    uint64_t hash;
    bool meant;     /* the template gives it a value, or asks whether it has one */
    uint32_t scope; /* of the parser: the innermost of the scopes at work that mentions it; 0: none */
};

/* A parsed template. */
struct tern_template {
    char *name;
    struct tern_pool pool; /* the tree, its texts and names */
    struct tern_node **body;
    size_t n_body;
    struct tern_name **names; /* n_names of them; in the pool */
    size_t n_names, names_capacity;
    uint32_t *index; /* of names, by hash: 0: empty, else the name's number plus one */
    size_t n_index;  /* a power of two, at least twice n_names */
    const struct tern_vstring *loop, *caller, *varargs, *kwargs;
    struct tern_hidden hidden;
};

/* The identifier of those bytes; NULL where the template has none such. */
const struct tern_vstring *tern_template_name(const struct tern_template *t, const char *name, size_t size);

#endif
