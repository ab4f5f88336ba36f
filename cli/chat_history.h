/* chat_history.h: the messages of a conversation, each as the JSON object that a chat template gets. */
#ifndef TERN_CLI_CHAT_HISTORY_H
#define TERN_CLI_CHAT_HISTORY_H

#include "cli.h"

struct chat_message {
    char *json; /* {"role":...,"content":...} */
    char role;  /* its role's first letter: s, u, a, t; ? where it is none of these */
};

struct chat_history {
    struct chat_message *data;
    size_t count, capacity;
};

/* A function that can fail returns 0 or the exit code, and has then printed its one line; the history is as it was. */

/* role: "user", ...; content: UTF-8 of `size` bytes. */
int chat_history_add(struct chat_history *h, const char *role, const char *content, size_t size);
/* The messages from `count` on are gone. */
void chat_history_cut(struct chat_history *h, size_t count);
/* The system message, which stands first; "" takes it away. */
int chat_history_system(struct chat_history *h, const char *content);
/* Where the last message of a role stands; `count` where there is none. */
size_t chat_history_last(const struct chat_history *h, char role);
/* The JSON array of all, freed with free(). */
int chat_history_json(const struct chat_history *h, char **out, size_t *size);
int chat_history_save(const struct chat_history *h, const char *file);
/* A file with such an array instead of what there was. */
int chat_history_load(tern_ctx *ctx, struct chat_history *h, const char *file);
/* "role: content" on stderr, one below the other. */
int chat_history_show(tern_ctx *ctx, const struct chat_history *h);
void chat_history_free(struct chat_history *h);

#endif
