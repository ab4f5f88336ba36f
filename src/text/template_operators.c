/* template_operators.c: operators around operands, by the grammar of jinja2's parser.
 *
 * Precedence, weakest first: x if y else z; or; and; not; comparisons, in; + -; ~; * / // %; **; unary + -; then what
 * follows a value (template_operands.c).  Unary minus binds stronger than **, as in jinja2 and unlike Python. */
#include "text/template_parser.h"

typedef struct tern_node node;
typedef tern_status operand_fn(struct tern_parser *p, node **out);

/* Which operator a token is. */
struct sign {
    enum tern_lexeme token;
    enum tern_operator op;
};

static bool at_sign(const struct tern_parser *p, const struct sign *signs, size_t n, enum tern_operator *op)
{
    for (size_t i = 0; i < n; i++)
        if (tern_parse_at(p, signs[i].token)) {
            *op = signs[i].op;
            return true;
        }
    return false;
}

/* Operands with any of n operators between them, from the left: a - b - c is (a - b) - c. */
static tern_status parse_chain(struct tern_parser *p, operand_fn *operand, const struct sign *signs, size_t n,
                               node **out)
{
    enum tern_operator op;

    TERN_TRY(operand(p, out));
    while (at_sign(p, signs, n, &op)) {
        const uint32_t line = p->token.line;
        node *right;

        TERN_TRY(tern_parse_next(p));
        TERN_TRY(operand(p, &right));
        TERN_TRY(tern_node_make_with(p, TERN_N_BINARY, line, *out, right, out));
        (*out)->op = op;
    }
    return TERN_OK;
}

static tern_status parse_power(struct tern_parser *p, node **out)
{
    return tern_parse_unary(p, true, out);
}

static tern_status parse_factor(struct tern_parser *p, node **out)
{
    static const struct sign signs[] = { { TERN_T_POW, TERN_OP_POW } };

    return parse_chain(p, parse_power, signs, 1, out);
}

static tern_status parse_product(struct tern_parser *p, node **out)
{
    static const struct sign signs[] = { { TERN_T_MUL, TERN_OP_MUL },
                                         { TERN_T_DIV, TERN_OP_DIV },
                                         { TERN_T_FLOORDIV, TERN_OP_FLOORDIV },
                                         { TERN_T_MOD, TERN_OP_MOD } };

    return parse_chain(p, parse_factor, signs, 4, out);
}

static tern_status parse_concat(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
    node *item;

    TERN_TRY(parse_product(p, &item));
    *out = item;
    if (!tern_parse_at(p, TERN_T_TILDE))
        return TERN_OK;
    TERN_TRY(tern_nodes_push(p, &list, item));
    while (tern_parse_at(p, TERN_T_TILDE)) {
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(parse_product(p, &item));
        TERN_TRY(tern_nodes_push(p, &list, item));
    }
    TERN_TRY(tern_node_make(p, TERN_N_CONCAT, line, out));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
}

static tern_status parse_sum(struct tern_parser *p, node **out)
{
    static const struct sign signs[] = { { TERN_T_ADD, TERN_OP_ADD }, { TERN_T_SUB, TERN_OP_SUB } };

    return parse_chain(p, parse_concat, signs, 2, out);
}

/* A comparison operator at the token, which is skipped; false: there is none. */
static tern_status comparison(struct tern_parser *p, enum tern_operator *op, bool *there)
{
    static const struct sign signs[] = { { TERN_T_EQ, TERN_OP_EQ }, { TERN_T_NE, TERN_OP_NE },
                                         { TERN_T_LT, TERN_OP_LT }, { TERN_T_LE, TERN_OP_LE },
                                         { TERN_T_GT, TERN_OP_GT }, { TERN_T_GE, TERN_OP_GE } };
    const struct tern_template_token *ahead;

    *there = true;
    if (at_sign(p, signs, 6, op))
        return tern_parse_next(p);
    if (tern_parse_at_name(p, "in")) {
        *op = TERN_OP_IN;
        return tern_parse_next(p);
    }
    if (tern_parse_at_name(p, "not")) {
        TERN_TRY(tern_parse_look(p, &ahead));
        if (tern_token_is(ahead, "in")) {
            *op = TERN_OP_NOT_IN;
            TERN_TRY(tern_parse_next(p));
            return tern_parse_next(p);
        }
    }
    *there = false;
    return TERN_OK;
}

static tern_status parse_compare(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
    node *first, *n;

    TERN_TRY(parse_sum(p, &first));
    for (;;) {
        enum tern_operator op = TERN_OP_EQ;
        bool there;

        TERN_TRY(comparison(p, &op, &there));
        if (!there)
            break;
        TERN_TRY(parse_sum(p, &n));
        TERN_TRY(tern_node_make_with(p, TERN_N_COMPARED, line, n, NULL, &n));
        n->op = op;
        TERN_TRY(tern_nodes_push(p, &list, n));
    }
    *out = first;
    if (list.count == 0)
        return TERN_OK;
    TERN_TRY(tern_node_make_with(p, TERN_N_COMPARE, line, first, NULL, out));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
}

static tern_status parse_not(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    node *operand;

    if (!tern_parse_at_name(p, "not"))
        return parse_compare(p, out);
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(parse_not(p, &operand));
    p->depth--;
    return tern_node_make_with(p, TERN_N_NOT, line, operand, NULL, out);
}

/* Operands with a word between them. */
static tern_status parse_logic(struct tern_parser *p, operand_fn *operand, const char *word, enum tern_node_kind kind,
                               node **out)
{
    bool there;

    TERN_TRY(operand(p, out));
    for (;;) {
        node *right;

        TERN_TRY(tern_parse_skip_name(p, word, &there));
        if (!there)
            return TERN_OK;
        TERN_TRY(operand(p, &right));
        TERN_TRY(tern_node_make_with(p, kind, right->line, *out, right, out));
    }
}

static tern_status parse_and(struct tern_parser *p, node **out)
{
    return parse_logic(p, parse_not, "and", TERN_N_AND, out);
}

tern_status tern_parse_or(struct tern_parser *p, node **out)
{
    return parse_logic(p, parse_and, "or", TERN_N_OR, out);
}

tern_status tern_parse_expression(struct tern_parser *p, node **out)
{
    bool there;

    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(tern_parse_or(p, out));
    for (;;) {
        node *condition, *n;
        bool has_else;

        TERN_TRY(tern_parse_skip_name(p, "if", &there));
        if (!there)
            break;
        TERN_TRY(tern_parse_or(p, &condition));
        TERN_TRY(tern_node_make_with(p, TERN_N_CHOICE, condition->line, condition, *out, &n));
        TERN_TRY(tern_parse_skip_name(p, "else", &has_else));
        if (has_else) {
            TERN_TRY(tern_parse_expression(p, &n->c));
            TERN_TRY(tern_node_deepen(p, n, n->c));
        }
        *out = n;
    }
    p->depth--;
    return TERN_OK;
}
