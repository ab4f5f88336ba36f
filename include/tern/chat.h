/* chat.h: conversations as the text that a model was trained on. */
#ifndef TERN_CHAT_H
#define TERN_CHAT_H

#include <tern/context.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The chat templates of a checkpoint, and its special tokens.  Read-only after open: shared by threads, each with a context
 *  of its own. */
typedef struct tern_chat tern_chat;

/** Opens the templates of a checkpoint directory.
 *
 * As transformers 5.23 looks for them: chat_template.jinja is the template "default" and additional_chat_templates/NAME.jinja the
 * template NAME; without any of these chat_template in tokenizer_config.json, a text (then "default") or a list of objects with name and
 * template.  Special tokens (bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token) are tokenizer_config.json's,
 * else special_tokens_map.json's.
 *
 * @param ctx   error text.
 * @param dir   the directory; a file in it stands for its directory.
 * @param file  a template to use instead of the directory's ones, as "default"; NULL: the directory's.
 * @param out   the templates; NULL on error.
 * @return TERN_OK; TERN_ERR_NOT_FOUND (there is no template), TERN_ERR_FORMAT (syntax, with template and line; a damaged file),
 *         TERN_ERR_UNSUPPORTED (a tag, filter, test, function or method that tern does not have, with template and line),
 *         TERN_ERR_CAPACITY (a template above 1 MiB, or nested deeper than 200 levels), TERN_ERR_IO, TERN_ERR_MEMORY.
 * Of several templates one that is wrong is reported when it is rendered; open fails where all are. */
TERN_API tern_status tern_chat_open(tern_ctx *ctx, const char *dir, const char *file, tern_chat **out);

/** The same for one template, "default", in memory, without special tokens.
 *
 * @param name    for errors.
 * @param source  `size` bytes of UTF-8; not needed afterwards.
 * @return TERN_OK; TERN_ERR_ARG (NULL), TERN_ERR_FORMAT, TERN_ERR_UNSUPPORTED, TERN_ERR_CAPACITY, TERN_ERR_MEMORY. */
TERN_API tern_status tern_chat_parse(tern_ctx *ctx, const char *name, const char *source, size_t size, tern_chat **out);

/** Frees the templates and sets *chat to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_chat_close(tern_chat **chat);

/** Number of templates; 0 for NULL. */
TERN_API size_t tern_chat_count(const tern_chat *chat);
/** Name of template `index`, valid as long as the templates; NULL past the end and for NULL. */
TERN_API const char *tern_chat_name(const tern_chat *chat, size_t index);
/** Text of a special token by its name ("bos_token"), valid as long as the templates; NULL where the files have none. */
TERN_API const char *tern_chat_special(const tern_chat *chat, const char *name);

/** What a rendering starts with besides the messages, and where it ends. */
typedef struct tern_chat_options {
    const char *name;  /**< of the template; NULL: "tool_use" if there are tools and such a template, else "default" */
    const char *tools; /**< a JSON array of objects, the variable tools; NULL: none */
    const char *documents;      /**< a JSON array of objects, the variable documents; NULL: none */
    const char *variables;      /**< a JSON object: further variables by name; NULL: none */
    bool add_generation_prompt; /**< the variable of that name: the text ends where an answer begins */
    int64_t now;                /**< seconds since 1970 for strftime_now(), in local time; -1: the clock's */
    uint64_t max_steps;         /**< limit of elementary steps; 0: 20,000,000 */
    uint32_t max_depth;         /**< limit of nested calls and values; 0: 1000, which is also the most */
    size_t max_output;          /**< limit of bytes written; 0: 64 MiB */
    size_t max_memory;          /**< limit of bytes of values; 0: 512 MiB */
    uint64_t reserved[6];       /**< zero */
} tern_chat_options;
/** No tools, no documents, no variables, a generation prompt, the clock's time, the limits as above. */
TERN_API tern_chat_options tern_chat_options_default(void);

/** Renders a conversation.
 *
 * The text is the one that transformers' apply_chat_template(tokenize=False) gives, byte for byte.  It holds the special tokens that the
 * template writes: encode it with add_special = false.
 *
 * @param messages  a JSON array of objects (role, content, ...), `size` bytes of UTF-8.
 * @param options   NULL: tern_chat_options_default().
 * @param text      a new NUL-terminated string, freed with tern_chat_text_free(); NULL on error.
 * @param n_text    its bytes without the NUL; may be NULL.
 * @return TERN_OK; TERN_ERR_ARG (NULL, a reserved field; the template refuses the conversation, in its own words),
 *         TERN_ERR_NOT_FOUND (no template of that name: those that there are), TERN_ERR_FORMAT (JSON, with line and column; an operation
 *         that the template's values do not have, with template and line), TERN_ERR_CAPACITY (a limit, by name),
 *         TERN_ERR_UNSUPPORTED, TERN_ERR_MEMORY. */
TERN_API tern_status tern_chat_render(tern_ctx *ctx, const tern_chat *chat, const char *messages, size_t size,
                                      const tern_chat_options *options, char **text, size_t *n_text);

/** Frees what tern_chat_render() gave.  NULL is fine. */
TERN_API void tern_chat_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
