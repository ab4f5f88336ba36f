/* fuzz_npy.c: any bytes as a NumPy file.  What is accepted lies inside of the file, to its last byte; what is refused has a text. */
#include "npy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npy_header header;
    char message[256] = "";

    if (!npy_header_parse(data, size, &header, message, sizeof(message))) {
        if (!message[0])
            abort();
        return 0;
    }
    size_t bytes = tern_dtype_size(header.dtype);
    if (!bytes || header.rank < 0 || header.rank > TERN_MAX_RANK)
        abort();
    for (int i = 0; i < header.rank; i++) {
        if (header.dim[i] < 0)
            abort();
        bytes *= (size_t)header.dim[i];
    }
    if (bytes != header.bytes || header.offset > size || size - header.offset != bytes ||
        tern_tensor_view(NULL, header.dtype, header.rank, header.dim).rank != header.rank)
        abort();
    return 0;
}
