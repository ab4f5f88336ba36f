/* fuzz_safetensors.c: any bytes as a safetensors file.
 *
 * What is accepted is what the header promises: every tensor lies inside the file, no two share a byte, all bytes
 * together are the data, and each is found under its name.  What is refused has a text and leaves nothing behind. */
#include "model/safetensors.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tern_ctx ctx = { 0 };
    struct tern_safetensors *files;
    char path[64];
    size_t sum = 0;
    unsigned char seen = 0;

    const int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || (size > 0 && write(fd, data, size) != (ssize_t)size))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const tern_status status = tern_safetensors_open(&ctx, path, &files);
    if ((status == TERN_OK) != (files != NULL) || (status != TERN_OK && !ctx.error[0]) || status == TERN_ERR_MEMORY)
        abort();
    for (size_t i = 0; files && i < tern_safetensors_count(files); i++) {
        const struct tern_file_tensor *t = tern_safetensors_at(files, i);
        size_t elements = 1;

        for (int d = 0; d < t->rank; d++)
            elements *= (size_t)t->dim[d];
        if (tern_safetensors_find(files, t->name) != t || t->size != elements * tern_dtype_size(t->dtype))
            abort();
        for (size_t b = 0; b < t->size; b++)
            seen ^= t->data[b];
        sum += t->size;
        tern_safetensors_drop(files, t);
    }
    if (files) {
        unsigned char expected = 0;
        if (sum > size - 8)
            abort();
        for (size_t b = size - sum; b < size; b++)
            expected ^= data[b];
        if (seen != expected)
            abort();
    }
    tern_safetensors_close(&files);
    close(fd);
    return 0;
}
