/* template_lexer.h: a template's text as tokens, white space taken off as jinja2 does it. */
#ifndef TERN_TEXT_TEMPLATE_LEXER_H
#define TERN_TEXT_TEMPLATE_LEXER_H

#include "text/template_memory.h"

enum tern_lexeme {
    TERN_T_END,
    TERN_T_DATA,        /* text between tags */
    TERN_T_PRINT_BEGIN, /* {{ */
    TERN_T_PRINT_END,
    TERN_T_BLOCK_BEGIN, /* {% */
    TERN_T_BLOCK_END,
    TERN_T_NAME,
    TERN_T_STRING, /* text: what it stands for */
    TERN_T_INTEGER,
    TERN_T_FLOAT,
    TERN_T_ADD,
    TERN_T_SUB,
    TERN_T_DIV,
    TERN_T_FLOORDIV,
    TERN_T_MUL,
    TERN_T_MOD,
    TERN_T_POW,
    TERN_T_TILDE,
    TERN_T_LBRACKET,
    TERN_T_RBRACKET,
    TERN_T_LPAREN,
    TERN_T_RPAREN,
    TERN_T_LBRACE,
    TERN_T_RBRACE,
    TERN_T_EQ,
    TERN_T_NE,
    TERN_T_GT,
    TERN_T_GE,
    TERN_T_LT,
    TERN_T_LE,
    TERN_T_ASSIGN,
    TERN_T_DOT,
    TERN_T_COLON,
    TERN_T_PIPE,
    TERN_T_COMMA,
    TERN_T_SEMICOLON
};

struct tern_template_token {
    enum tern_lexeme kind;
    uint32_t line;
    const char *text; /* of DATA, NAME, STRING: in the pool, or the source; of others as they are written */
    size_t size;
    int64_t integer;
    double real;
};

struct tern_lexer {
    tern_ctx *ctx;
    const char *name;       /* of the template */
    struct tern_pool *pool; /* of the template: strings; the source must stay as long as it */
    const char *text;       /* newlines are \n, the last one is gone */
    size_t size, at;
    uint32_t line;
    int state;        /* of template_lexer.c */
    bool line_starts; /* what was matched last ended with a newline */
    char *open;       /* ) ] } that are still to come */
    size_t n_open, open_capacity;
    uint32_t opened; /* line of the tag at work */
};

/* source: valid UTF-8 without a byte order mark; copied into the pool. */
tern_status tern_lexer_start(tern_ctx *ctx, const char *name, struct tern_pool *pool, const char *source, size_t size,
                             struct tern_lexer *out);
/* After TERN_T_END: that again.  TERN_ERR_FORMAT. */
tern_status tern_lexer_next(struct tern_lexer *lexer, struct tern_template_token *out);
void tern_lexer_finish(struct tern_lexer *lexer);
const char *tern_lexeme_name(enum tern_lexeme kind);

#endif
