/* replay_main.c: runs a fuzz target without libFuzzer: every file of its corpus, then mutations of them.
 *
 * The mutations are the same in every run: bytes changed, cut, repeated, pieces of two files joined.  They do not replace
 * the fuzzer, which looks at coverage; they keep its findings and the cheap mistakes from coming back. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_FILES     4096
#define LARGEST_INPUT (1u << 20)
#define MUTATIONS     20000
#define MAX_SECONDS   10 /* sanitizers and large inputs: then fewer of them */

struct input {
    uint8_t *data;
    size_t size;
};

static uint64_t state = 1;

static uint64_t next_random(void)
{
    uint64_t z = state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next_random() % n) : 0;
}

/* In a block of exactly its size, so that a sanitizer sees the first byte behind it. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        exit(1);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t read_corpus(const char *dir, struct input *inputs)
{
    static char *names[MAX_FILES];
    size_t n = 0, kept = 0;
    DIR *d = opendir(dir);

    if (!d)
        return 0;
    for (struct dirent *e; n < MAX_FILES && (e = readdir(d));)
        if (e->d_name[0] != '.')
            names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, n, sizeof names[0], by_name); /* the order of a folder is not the same everywhere */
    for (size_t i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        free(names[i]);
        FILE *f = fopen(path, "rb");
        uint8_t *data = malloc(LARGEST_INPUT);
        if (!f || !data)
            exit(1);
        inputs[kept].size = fread(data, 1, LARGEST_INPUT, f);
        inputs[kept++].data = data;
        fclose(f);
    }
    return kept;
}

static size_t mutate(uint8_t *out, const struct input *inputs, size_t n_inputs)
{
    static const uint8_t edges[] = { 0, 1, 0x7F, 0x80, 0xFF, '"', '{', '[', ',', '0', '9', '-' };
    const struct input *a = &inputs[below(n_inputs)], *b = &inputs[below(n_inputs)];
    size_t size = a->size;

    memcpy(out, a->data, size);
    for (size_t changes = 1 + below(4); changes > 0; changes--) {
        const size_t at = below(size), length = 1 + below(16);
        switch (below(6)) {
        case 0: /* a bit */
            if (size)
                out[at] ^= (uint8_t)(1u << below(8));
            break;
        case 1: /* an interesting byte */
            if (size)
                out[at] = edges[below(sizeof edges)];
            break;
        case 2: /* cut the end off */
            size = at;
            break;
        case 3: /* take a piece out */
            if (at + length <= size) {
                memmove(out + at, out + at + length, size - at - length);
                size -= length;
            }
            break;
        case 4: /* a piece twice */
            if (at + length <= size && size + length <= LARGEST_INPUT) {
                memmove(out + at + length, out + at, size - at);
                size += length;
            }
            break;
        default: /* the end of another file behind this beginning */
            if (b->size) {
                const size_t from = below(b->size), tail = b->size - from;
                if (at + tail <= LARGEST_INPUT) {
                    memcpy(out + at, b->data + from, tail);
                    size = at + tail;
                }
            }
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    static struct input inputs[MAX_FILES];
    static uint8_t buffer[LARGEST_INPUT];
    const time_t start = time(NULL);
    size_t mutations = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 2;
    }
    const size_t n = read_corpus(argv[1], inputs);
    if (n == 0) {
        fprintf(stderr, "%s: no corpus\n", argv[1]);
        return 1;
    }
    run((const uint8_t *)"", 0);
    for (size_t i = 0; i < n; i++)
        run(inputs[i].data, inputs[i].size);
    for (; mutations < MUTATIONS && time(NULL) - start < MAX_SECONDS; mutations++)
        run(buffer, mutate(buffer, inputs, n));
    printf("%zu files, %zu mutations\n", n, mutations);
    for (size_t i = 0; i < n; i++)
        free(inputs[i].data);
    return 0;
}
