// ops_onednn.cpp: oneDNN 2.x: layer norm, softmax, GELU, sums; attention as two batched products and a softmax between them; a feed-forward
// as layer norm and two products, whose bias, GELU and residual are post-operations.  Causal attention is the full one with a mask that is
// added to the scores: there is no smaller one, and as a post-operation of the first product the mask would take the slow reference.
#include "peer.h"

#include <dnnl.hpp>
#include <omp.h>

#include <cstdio>
#include <cstring>
#include <unordered_map>
#include <vector>

#if DNNL_VERSION_MAJOR >= 3
#error "written for oneDNN 2.x, which Debian has"
#endif

namespace
{

using type = dnnl::memory::data_type;
using tag = dnnl::memory::format_tag;
using dims = dnnl::memory::dims;
using desc = dnnl::memory::desc;
using kind = dnnl::prop_kind;
using algorithm = dnnl::algorithm;

struct step {
    dnnl::primitive primitive;
    std::unordered_map<int, dnnl::memory> arguments;
};

struct state {
    peer_case c;
    dnnl::engine engine{ dnnl::engine::kind::cpu, 0 };
    dnnl::stream stream{ engine };
    std::vector<std::vector<step>> copies; // what is run, for each copy
    std::vector<dnnl::memory> results;     // the same
    std::vector<void *> taken;
    type dtype;

    dnnl::memory take(const desc &d)
    {
        taken.push_back(peer_take(d.get_size()));
        return dnnl::memory(d, engine, taken.back());
    }

    dnnl::memory take(const dims &sizes, tag order) { return take(desc(sizes, dtype, order)); }

    dnnl::memory input(const dims &sizes, tag order, peer_input what, type as)
    {
        dnnl::memory m = take(desc(sizes, as, order));
        size_t count = 1;

        for (const auto size : sizes)
            count *= (size_t)size;
        peer_values(m.get_data_handle(), as == type::f32 ? PEER_FP32 : PEER_BF16, what, count);
        return m;
    }

    dnnl::memory input(const dims &sizes, tag order, peer_input what) { return input(sizes, order, what, dtype); }

    // Positions of heads lie side by side, as a projection writes them.
    desc heads(bool turned) const
    {
        const dims::value_type n = c.n, m = c.m, e = PEER_HEAD;
        return turned ? desc({ n, e, m }, dtype, dims{ e, 1, n * e }) : desc({ n, m, e }, dtype, dims{ e, n * e, 1 });
    }

    dnnl::memory rows(peer_input what, bool turned)
    {
        dnnl::memory m = take(heads(turned));
        peer_values(m.get_data_handle(), c.dtype, what, (size_t)c.m * (size_t)c.n * PEER_HEAD);
        return m;
    }
};

void open_rows(state &s)
{
    const dims sizes{ s.c.m, s.c.n };
    const desc rows(sizes, s.dtype, tag::ab);
    dnnl::primitive primitive;
    std::unordered_map<int, dnnl::memory> more;

    if (s.c.op == PEER_LAYER_NORM) {
        const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
        primitive = dnnl::layer_normalization_forward(
            { { kind::forward_inference, rows, PEER_EPS, flags }, s.engine });
        more = { { DNNL_ARG_SCALE, s.input({ s.c.n }, tag::a, PEER_GAMMA, type::f32) },
                 { DNNL_ARG_SHIFT, s.input({ s.c.n }, tag::a, PEER_BETA, type::f32) } };
    } else if (s.c.op == PEER_SOFTMAX)
        primitive = dnnl::softmax_forward({ { kind::forward_inference, rows, 1 }, s.engine });
    else if (s.c.op == PEER_ADD)
        primitive = dnnl::binary({ { algorithm::binary_add, rows, rows, rows }, s.engine });
    else {
        const auto gelu = s.c.op == PEER_GELU_ERF ? algorithm::eltwise_gelu_erf : algorithm::eltwise_gelu_tanh;
        primitive = dnnl::eltwise_forward({ { kind::forward_inference, gelu, rows, 0, 0 }, s.engine });
    }
    for (size_t i = 0; i < s.c.copies; i++) {
        step one{ primitive, more };

        one.arguments[s.c.op == PEER_ADD ? DNNL_ARG_SRC_0 : DNNL_ARG_SRC] = s.input(sizes, tag::ab, PEER_X);
        if (s.c.op == PEER_ADD)
            one.arguments[DNNL_ARG_SRC_1] = s.input(sizes, tag::ab, PEER_Z);
        s.results.push_back(one.arguments[DNNL_ARG_DST] = s.take(sizes, tag::ab));
        s.copies.push_back({ one });
    }
}

void open_attention(state &s)
{
    const dims scores{ s.c.n, s.c.m, s.c.m };
    const desc square(scores, s.dtype, tag::abc);
    dnnl::primitive_attr scaled;

    scaled.set_output_scales(0, { 0.125f });
    const dnnl::matmul first({ { s.heads(false), s.heads(true), square }, scaled, s.engine });
    const dnnl::softmax_forward softmax({ { kind::forward_inference, square, 2 }, s.engine });
    const dnnl::matmul second({ { square, s.heads(false), s.heads(false) }, s.engine });
    const dnnl::memory between = s.take(square), y = s.take(s.heads(false));
    std::vector<step> steps{ { first,
                               { { DNNL_ARG_SRC, s.rows(PEER_Q, false) },
                                 { DNNL_ARG_WEIGHTS, s.rows(PEER_K, true) },
                                 { DNNL_ARG_DST, between } } } };

    if (s.c.k) {
        const dnnl::memory mask = s.take({ 1, s.c.m, s.c.m }, tag::abc);
        std::vector<int8_t> hidden((size_t)s.c.m * (size_t)s.c.m);

        for (size_t i = 0, m = (size_t)s.c.m; i < m * m; i++)
            hidden[i] = i % m > i / m ? -128 : 0; // far beyond all scores
        peer_fill(mask.get_data_handle(), s.c.dtype, hidden.data(), hidden.size());
        steps.push_back({ dnnl::binary({ { algorithm::binary_add, square, mask.get_desc(), square }, s.engine }),
                          { { DNNL_ARG_SRC_0, between }, { DNNL_ARG_SRC_1, mask }, { DNNL_ARG_DST, between } } });
    }
    steps.push_back({ softmax, { { DNNL_ARG_SRC, between }, { DNNL_ARG_DST, between } } });
    steps.push_back({ second,
                      { { DNNL_ARG_SRC, between }, { DNNL_ARG_WEIGHTS, s.rows(PEER_V, false) }, { DNNL_ARG_DST, y } } });
    s.copies.assign(s.c.copies, steps);
    s.results.assign(s.c.copies, y);
}

void open_mlp(state &s)
{
    const dnnl::memory::dim m = s.c.m, h = s.c.k, inner = s.c.n;
    const desc rows({ m, h }, s.dtype, tag::ab), wide({ m, inner }, s.dtype, tag::ab);
    const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
    const dnnl::layer_normalization_forward norm({ { kind::forward_inference, rows, PEER_EPS, flags }, s.engine });
    dnnl::primitive_attr gelu, residual;
    dnnl::post_ops after;

    after.append_eltwise(1, algorithm::eltwise_gelu_tanh, 0, 0);
    gelu.set_post_ops(after);
    after = dnnl::post_ops();
    after.append_binary(algorithm::binary_add, rows);
    residual.set_post_ops(after);
    const dnnl::matmul::primitive_desc up(
        { rows, desc({ h, inner }, s.dtype, tag::any), desc({ 1, inner }, type::f32, tag::ab), wide }, gelu, s.engine);
    const dnnl::matmul::primitive_desc down(
        { wide, desc({ inner, h }, s.dtype, tag::any), desc({ 1, h }, type::f32, tag::ab), rows }, residual, s.engine);
    dnnl::memory w1 = s.input({ h, inner }, tag::ab, PEER_W1), w2 = s.input({ inner, h }, tag::ab, PEER_W2);
    const dnnl::memory x = s.input({ m, h }, tag::ab, PEER_X), normed = s.take(rows), between = s.take(wide),
                       y = s.take(rows), gamma = s.input({ h }, tag::a, PEER_GAMMA, type::f32),
                       beta = s.input({ h }, tag::a, PEER_BETA, type::f32),
                       b1 = s.input({ 1, inner }, tag::ab, PEER_B1, type::f32),
                       b2 = s.input({ 1, h }, tag::ab, PEER_B2, type::f32);

    for (size_t i = 0; i < s.c.copies; i++) {
        dnnl::memory to_up = s.take(up.weights_desc()), to_down = s.take(down.weights_desc());

        dnnl::reorder(w1, to_up).execute(s.stream, w1, to_up);
        dnnl::reorder(w2, to_down).execute(s.stream, w2, to_down);
        s.stream.wait();
        s.copies.push_back(
            { { norm, { { DNNL_ARG_SRC, x }, { DNNL_ARG_DST, normed }, { DNNL_ARG_SCALE, gamma }, { DNNL_ARG_SHIFT, beta } } },
              { dnnl::matmul(up),
                { { DNNL_ARG_SRC, normed }, { DNNL_ARG_WEIGHTS, to_up }, { DNNL_ARG_BIAS, b1 }, { DNNL_ARG_DST, between } } },
              { dnnl::matmul(down),
                { { DNNL_ARG_SRC, between },
                  { DNNL_ARG_WEIGHTS, to_down },
                  { DNNL_ARG_BIAS, b2 },
                  { DNNL_ARG_DST, y },
                  { DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, x } } } });
        s.results.push_back(y);
    }
}

} // namespace

const char *peer_name(void)
{
    static char name[32];
    const dnnl_version_t *v = dnnl_version();

    std::snprintf(name, sizeof(name), "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return name;
}

void *peer_open(const peer_case *c)
{
    if (c->op == PEER_GEMM || c->op == PEER_RMS_NORM || c->dtype == PEER_INT8)
        return nullptr;
    omp_set_num_threads(c->threads);
    state *s = new state;
    s->c = *c;
    s->dtype = c->dtype == PEER_BF16 ? type::bf16 : type::f32;
    try {
        if (c->op == PEER_ATTENTION)
            open_attention(*s);
        else if (c->op == PEER_MLP)
            open_mlp(*s);
        else
            open_rows(*s);
    } catch (const dnnl::error &e) {
        std::fprintf(stderr, "oneDNN: %s\n", e.what());
        peer_close(s);
        return nullptr;
    }
    return s;
}

void peer_run(void *opened, size_t copy)
{
    state *s = static_cast<state *>(opened);

    for (const step &one : s->copies[copy])
        one.primitive.execute(s->stream, one.arguments);
    s->stream.wait();
}

double peer_result(void *opened, size_t copy, int row, int column)
{
    const state *s = static_cast<state *>(opened);
    const size_t at = (size_t)row * (size_t)peer_columns(&s->c) + (size_t)column;
    const void *y = s->results[copy].get_data_handle();

    return s->c.dtype == PEER_FP32 ? static_cast<const float *>(y)[at]
                                   : peer_from_bf16(static_cast<const uint16_t *>(y)[at]);
}

void peer_close(void *opened)
{
    state *s = static_cast<state *>(opened);

    for (void *data : s->taken)
        peer_give(data);
    delete s;
}

int peer_ceilings(int, double[3], double *)
{
    return 0;
}
