/* model_config.h: config.json becomes a tern_model_config, and that a tern_config for each layer. */
#ifndef TERN_MODEL_MODEL_CONFIG_H
#define TERN_MODEL_MODEL_CONFIG_H

#include "model/arch.h"

#define TERN_MODEL_CONFIG_FILE_MAX ((size_t)16 << 20) /* bytes of a config.json */

/* Chooses the family and has it read the file.  TERN_ERR_FORMAT (wrong types; file, key, found, expected),
 * TERN_ERR_CONFIG (values that cannot be), TERN_ERR_UNSUPPORTED (by name, with what there is), TERN_ERR_MEMORY. */
tern_status tern_model_config_parse(tern_ctx *ctx, const struct tern_json *json, const struct tern_arch **arch,
                                    tern_model_config *out);

/* The config of one layer, 0 <= layer < n_layers.  Its dtype is the model's row_dtype, whatever the files hold. */
tern_config tern_config_from_model(const tern_model_config *model, int32_t layer);

/* --- for the families ------------------------------------------------------------------------------------------------ */

/* An integer under its name or an alias of it (NULL: none), required; both at once must agree. */
tern_status tern_config_need_int(tern_ctx *ctx, const struct tern_json *json, const char *key, const char *alias,
                                 int64_t min, int64_t max, int32_t *out);

/* An activation by transformers' name.  TERN_ERR_UNSUPPORTED with the known ones. */
tern_status tern_config_activation_name(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                        const char *standard, tern_model_config *config);

/* bos_token_id and eos_token_id: an id, null, or a list, of which the first counts. */
tern_status tern_config_ids(tern_ctx *ctx, const struct tern_json *json, tern_model_config *config);

/* A flag that changes the computation in a way that tern does not know: false or absent, or TERN_ERR_UNSUPPORTED. */
tern_status tern_config_refuse(tern_ctx *ctx, const struct tern_json *json, const char *key);

#endif
