// gemm_onednn.cpp: oneDNN's matmul, 2.x or 3.x, with weights reordered ahead to the layout that it asks for.  int8: rows are u8 when they
// come and results s32 when they leave, so quantising and scaling are left out.
#include "peer.h"

#include <dnnl.hpp>
#include <omp.h>

#include <cstdio>
#include <cstring>
#include <vector>

namespace
{

using type = dnnl::memory::data_type;
using tag = dnnl::memory::format_tag;

struct state {
    peer_case c;
    dnnl::engine engine{ dnnl::engine::kind::cpu, 0 };
    dnnl::stream stream{ engine };
    dnnl::matmul product;
    dnnl::memory x, y;
    std::vector<dnnl::memory> w;
    std::vector<void *> taken;

    dnnl::memory take(const dnnl::memory::desc &desc)
    {
        taken.push_back(peer_take(desc.get_size()));
        return dnnl::memory(desc, engine, taken.back());
    }
};

dnnl::matmul::primitive_desc describe(const dnnl::engine &engine, const dnnl::memory::desc &x,
                                      const dnnl::memory::desc &w, const dnnl::memory::desc &y)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl::matmul::primitive_desc(engine, x, w, y);
#else
    return dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, w, y), engine);
#endif
}

void fill(dnnl::memory &out, peer_dtype dtype, const int8_t *values, size_t count)
{
    if (dtype == PEER_INT8)
        std::memcpy(out.get_data_handle(), values, count); // 0..127 is the same as u8
    else
        peer_fill(out.get_data_handle(), dtype, values, count);
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
    static const type rows[] = { type::f32, type::bf16, type::u8 }, weights[] = { type::f32, type::bf16, type::s8 },
                      results[] = { type::f32, type::bf16, type::s32 };
    const dnnl::memory::dim m = c->m, k = c->k, n = c->n;

    omp_set_num_threads(c->threads);
    state *s = new state;
    s->c = *c;
    try {
        const auto product = describe(s->engine, dnnl::memory::desc({ m, k }, rows[c->dtype], tag::ab),
                                      dnnl::memory::desc({ k, n }, weights[c->dtype], tag::any),
                                      dnnl::memory::desc({ m, n }, results[c->dtype], tag::ab));

        s->product = dnnl::matmul(product);
        s->x = s->take(product.src_desc());
        s->y = s->take(product.dst_desc());
        dnnl::memory plain = s->take(dnnl::memory::desc({ k, n }, weights[c->dtype], tag::ab));
        fill(s->x, c->dtype, c->x, (size_t)c->m * (size_t)c->k);
        fill(plain, c->dtype, c->w, (size_t)c->k * (size_t)c->n);
        const size_t stride = (product.weights_desc().get_size() + 4095) / 4096 * 4096;
        s->taken.push_back(peer_take(c->copies * stride));
        char *all = static_cast<char *>(s->taken.back());
        for (size_t i = 0; i < c->copies; i++) {
            s->w.emplace_back(product.weights_desc(), s->engine, all + i * stride);
            dnnl::reorder(plain, s->w[i]).execute(s->stream, plain, s->w[i]);
        }
        s->stream.wait();
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

    s->product.execute(s->stream, { { DNNL_ARG_SRC, s->x }, { DNNL_ARG_WEIGHTS, s->w[copy] }, { DNNL_ARG_DST, s->y } });
    s->stream.wait();
}

double peer_result(void *opened, size_t, int row, int column)
{
    const state *s = static_cast<state *>(opened);
    const size_t at = (size_t)row * (size_t)s->c.n + (size_t)column;
    const void *y = s->y.get_data_handle();

    return s->c.dtype == PEER_FP32   ? static_cast<const float *>(y)[at]
           : s->c.dtype == PEER_BF16 ? peer_from_bf16(static_cast<const uint16_t *>(y)[at])
                                     : static_cast<const int32_t *>(y)[at];
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
