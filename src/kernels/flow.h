/* flow.h: how kernels of rows read ahead and write past the caches, as struct tern_row_flow asks. */
#ifndef TERN_KERNELS_FLOW_H
#define TERN_KERNELS_FLOW_H

#include "kernels/kernels.h"
#include "kernels/vec.h"

/* By value: what a pointer leads to would be read again after each store. */
V16_FN struct tern_row_flow flow_of(const struct tern_row_flow *flow)
{
    const struct tern_row_flow none = { { NULL, NULL }, 0, false, NULL };
    return flow ? *flow : none;
}

/* The line of each input that is `at` bytes into what is ahead. */
V16_FN void flow_ahead(struct tern_row_flow flow, size_t at)
{
    if (at >= flow.ahead_bytes)
        return;
    __builtin_prefetch((const char *)flow.ahead[0] + at);
    if (flow.ahead[1])
        __builtin_prefetch((const char *)flow.ahead[1] + at);
}

/* How many of n elements stand before the first whole line of `line` bytes; 0 without streaming. */
V16_FN size_t flow_head(bool stream, const void *y, size_t line, size_t element, size_t n)
{
    const size_t head = stream ? (line - (uintptr_t)y % line) % line / element : 0;
    return head < n ? head : n;
}

V16_FN void flow_store(bool stream, float *y, v16 v)
{
    if (stream)
        v16_stream(y, v);
    else
        v16_store(y, v);
}

V16_FN void flow_zero(bool stream, float *y, size_t n)
{
    const v16 zero = v16_set1(0);
    size_t i = flow_head(stream, y, 64, sizeof *y, n);

    if (i)
        v16_store_n(y, zero, i);
    for (; i + 16 <= n; i += 16)
        flow_store(stream, y + i, zero);
    if (i < n)
        v16_store_n(y + i, zero, n - i);
}

#endif
