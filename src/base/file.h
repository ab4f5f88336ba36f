/* file.h: files as input (mapped or read whole). */
#ifndef TERN_BASE_FILE_H
#define TERN_BASE_FILE_H

#include "base/ctx.h"

/* What is no model's file but what a failed download left in its place, a Git LFS pointer or an HTML page, is TERN_ERR_FORMAT for
 * both ways. */

/* A file mapped read-only.  A file of 0 bytes has data NULL. */
struct tern_map {
    const unsigned char *data;
    size_t size;
};

/* TERN_ERR_NOT_FOUND, TERN_ERR_IO (also: not a regular file), with the path and the system's words. */
tern_status tern_map_open(tern_ctx *ctx, const char *path, struct tern_map *out);
void tern_map_close(struct tern_map *map);
/* Tells the system that [offset, offset+size) is not needed any more; it is read again if touched. */
void tern_map_drop(const struct tern_map *map, size_t offset, size_t size);

/* The whole file with a NUL behind it; freed by tern_free.  A file above `limit` bytes is TERN_ERR_FORMAT with both numbers. */
tern_status tern_file_read(tern_ctx *ctx, const char *path, size_t limit, char **out, size_t *size);

/* "dir/name", freed by tern_free. */
tern_status tern_path_join(tern_ctx *ctx, const char *dir, const char *name, char **out);
bool tern_path_is_file(const char *path);
/* Nothing is there, a link to nothing included; false where the system does not let us look: opening it tells why. */
bool tern_path_is_absent(const char *path);
bool tern_path_is_dir(const char *path);

#endif
