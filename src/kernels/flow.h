/* flow.h: rows of f32, f16 or bf16 as vectors, and how kernels of rows read ahead and write past the caches, as struct tern_row_flow
 * asks.  A form is V16_F32, V16_F16 or V16_BF16, a constant in each loop; i and n count elements. */
#ifndef TERN_KERNELS_FLOW_H
#define TERN_KERNELS_FLOW_H

#include "kernels/kernels.h"
#include "kernels/vec.h"

/* ---- elements of a row ---- */

V16_FN size_t row_size(const enum v16_panel form)
{
    return form == V16_F32 ? sizeof(float) : sizeof(uint16_t);
}

V16_FN v16 row_load(const enum v16_panel form, const void *row, size_t i)
{
    return form == V16_F32   ? v16_load((const float *)row + i)
           : form == V16_F16 ? v16_load_f16((const uint16_t *)row + i)
                             : v16_load_bf16((const uint16_t *)row + i);
}

/* At most 16 of them. */
V16_FN v16 row_load_n(const enum v16_panel form, const void *row, size_t i, size_t n)
{
    if (n >= 16)
        return row_load(form, row, i);
    return form == V16_F32   ? v16_load_n((const float *)row + i, n)
           : form == V16_F16 ? v16_load_f16_n((const uint16_t *)row + i, n)
                             : v16_load_bf16_n((const uint16_t *)row + i, n);
}

/* Elements i .. i + 31. */
V16_FN v16x2 row_load2(const enum v16_panel form, const void *row, size_t i)
{
    if (form == V16_BF16)
        return v16_load2_bf16((const uint16_t *)row + i);
    const v16x2 v = { row_load(form, row, i), row_load(form, row, i + 16) };
    return v;
}

/* The same in any order of the 32 lanes, which row_in_order() puts right. */
V16_FN v16x2 row_load2_any(const enum v16_panel form, const void *row, size_t i)
{
    return form == V16_BF16 ? v16_load2_bf16_any((const uint16_t *)row + i) : row_load2(form, row, i);
}

V16_FN v16x2 row_in_order(const enum v16_panel form, v16x2 v)
{
    return form == V16_BF16 ? v16_in_order_bf16(v) : v;
}

V16_FN void row_store(const enum v16_panel form, void *row, size_t i, v16 v)
{
    if (form == V16_F32)
        v16_store((float *)row + i, v);
    else if (form == V16_F16)
        v16_store_f16((uint16_t *)row + i, v);
    else
        v16_store_bf16((uint16_t *)row + i, v);
}

V16_FN void row_store_n(const enum v16_panel form, void *row, size_t i, v16 v, size_t n)
{
    if (n >= 16)
        row_store(form, row, i, v);
    else if (form == V16_F32)
        v16_store_n((float *)row + i, v, n);
    else if (form == V16_F16)
        v16_store_f16_n((uint16_t *)row + i, v, n);
    else
        v16_store_bf16_n((uint16_t *)row + i, v, n);
}

/* ---- reading ahead, writing past the caches ---- */

/* By value: what a pointer leads to would be read again after each store. */
V16_FN struct tern_row_flow flow_of(const struct tern_row_flow *flow)
{
    const struct tern_row_flow none = { { NULL, NULL }, 0, false, NULL, NULL };
    return flow ? *flow : none;
}

/* The lines of each input that begin in [at, at + bytes) of what is ahead. */
V16_FN void flow_ahead(struct tern_row_flow flow, size_t at, const size_t bytes)
{
    if (at >= flow.ahead_bytes || (bytes < 64 && at % 64 != 0))
        return;
    for (size_t line = 0; line < bytes; line += 64) {
        __builtin_prefetch((const char *)flow.ahead[0] + at + line);
        if (flow.ahead[1])
            __builtin_prefetch((const char *)flow.ahead[1] + at + line);
    }
}

/* How many of n elements stand before the first whole line; 0 without streaming. */
V16_FN size_t flow_head(const enum v16_panel form, struct tern_row_flow flow, const void *y, size_t n)
{
    const size_t head = flow.stream ? (64 - (uintptr_t)y % 64) % 64 / row_size(form) : 0;
    return head < n ? head : n;
}

/* Elements i .. i + 31, streamed from a whole line on. */
V16_FN void flow_store2(const enum v16_panel form, struct tern_row_flow flow, void *row, size_t i, v16x2 v)
{
    float *wide = (float *)row + i;
    uint16_t *halves = (uint16_t *)row + i;

    if (form == V16_F32 && flow.stream) {
        v16_stream(wide, v.lo);
        v16_stream(wide + 16, v.hi);
    } else if (form == V16_F32) {
        v16_store(wide, v.lo);
        v16_store(wide + 16, v.hi);
    } else if (form == V16_F16 && flow.stream) {
        v16_stream_f16(halves, v.lo);
        v16_stream_f16(halves + 16, v.hi);
    } else if (form == V16_F16) {
        v16_store_f16(halves, v.lo);
        v16_store_f16(halves + 16, v.hi);
    } else if (flow.stream) {
        v16_stream2_bf16(halves, v);
    } else {
        v16_store2_bf16(halves, v);
    }
}

V16_FN void flow_zero(const enum v16_panel form, struct tern_row_flow flow, void *y, size_t from, size_t to)
{
    const v16 zero = v16_set1(0);
    const v16x2 zeros = { zero, zero };
    size_t i = from + flow_head(form, flow, (char *)y + from * row_size(form), to - from);

    for (size_t j = from; j < i; j += 16)
        row_store_n(form, y, j, zero, i - j);
    for (; i + 32 <= to; i += 32)
        flow_store2(form, flow, y, i, zeros);
    for (; i < to; i += 16)
        row_store_n(form, y, i, zero, to - i);
}

/* Kernels on rows of each form from one text, ROW(form, type, suffix): the f32 one, and those on halves. */
#define ROW_FORMS(ROW)          \
    ROW(V16_F32, float, f32)    \
    ROW(V16_F16, uint16_t, f16) \
    ROW(V16_BF16, uint16_t, bf16)

#endif
