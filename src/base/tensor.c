/* tensor.c: element types and views.  Packed weights are an operator's matter: src/ops. */
#include <tern/tensor.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[TERN_DTYPE_COUNT] = {
    [TERN_FP32] = { "fp32", 4 },     [TERN_FP16] = { "fp16", 2 },         [TERN_BF16] = { "bf16", 2 },
    [TERN_INT8] = { "int8", 1 },     [TERN_FP64] = { "fp64", 8 },         [TERN_UINT8] = { "uint8", 1 },
    [TERN_INT16] = { "int16", 2 },   [TERN_UINT16] = { "uint16", 2 },     [TERN_INT32] = { "int32", 4 },
    [TERN_UINT32] = { "uint32", 4 }, [TERN_INT64] = { "int64", 8 },       [TERN_UINT64] = { "uint64", 8 },
    [TERN_BOOL] = { "bool", 1 },     [TERN_FP8_E4M3] = { "fp8_e4m3", 1 }, [TERN_FP8_E5M2] = { "fp8_e5m2", 1 },
};

/* The comparison is made unsigned: a caller's negative number is no dtype either. */
static bool dtype_known(tern_dtype dtype)
{
    return (unsigned)dtype < TERN_DTYPE_COUNT;
}

size_t tern_dtype_size(tern_dtype dtype)
{
    return dtype_known(dtype) ? dtypes[dtype].size : 0;
}

const char *tern_dtype_name(tern_dtype dtype)
{
    return dtype_known(dtype) ? dtypes[dtype].name : "?";
}

tern_tensor tern_tensor_none(void)
{
    return (tern_tensor){ .rank = -1 };
}

/* Elements up to here fit every later size computation: 8 bytes each still make a positive int64_t. */
#define MAX_ELEMENTS (INT64_MAX / 8)

tern_tensor tern_tensor_view(void *data, tern_dtype dtype, int rank, const int64_t *dim)
{
    const tern_tensor invalid = tern_tensor_none();
    tern_tensor view = { .data = data, .dtype = dtype, .rank = rank };
    int64_t stride = 1;

    if (!dtype_known(dtype) || rank < 0 || rank > TERN_MAX_RANK || (rank > 0 && !dim))
        return invalid;
    for (int i = rank - 1; i >= 0; i--) {
        if (dim[i] < 0)
            return invalid;
        view.dim[i] = dim[i];
        view.stride[i] = stride;
        /* An axis without elements counts as one in the strides, as numpy has it. */
        const int64_t n = dim[i] > 0 ? dim[i] : 1;
        if (stride > MAX_ELEMENTS / n)
            return invalid;
        stride *= n;
    }
    return view;
}
