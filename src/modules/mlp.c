/* mlp.c: see mlp.h. */
#include "modules/mlp.h"

#include "ops/checks.h"

tern_status tern_mlp_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                          const tern_layer_weights *weights, struct tern_mlp_bound *out)
{
    const struct tern_config_sizes s = tern_config_sizes(config);
    const struct tern_bind_vector vectors[] = {
        { "attn_nw", &weights->attn_nw, s.hidden, false, &out->norm.gamma },
        { "attn_nb", &weights->attn_nb, s.hidden, false, &out->norm.beta },
        { "inter_b", &weights->inter_b, s.up, false, &out->feed_forward.up_bias },
        { "output_b", &weights->output_b, s.hidden, false, &out->down_b },
    };
    const struct tern_bind_matrix matrices[] = {
        { "inter_w", &weights->inter_w, s.hidden, s.up, &out->feed_forward.up },
        { "output_w", &weights->output_w, s.inner, s.hidden, &out->feed_forward.down },
    };

    out->norm.type = config->norm_type;
    out->norm.eps = config->layer_norm_eps;
    out->feed_forward.activation = config->mlp_act_func_type;
    out->feed_forward.gelu = config->gelu;
    return tern_bind(ctx, owner, config, vectors, sizeof vectors / sizeof vectors[0], matrices,
                     sizeof matrices / sizeof matrices[0], &out->binding);
}

void tern_mlp_free(struct tern_mlp_bound *mlp)
{
    tern_binding_free(&mlp->binding);
}

void tern_mlp_run(const struct tern_par *par, const struct tern_mlp_bound *mlp, float *c,
                  const struct tern_mlp_input *input, float *normed, bool keep, size_t n_rows, float *inner,
                  const struct tern_epilogue *e, void *narrow)
{
    const struct tern_feed_forward_args *args = &mlp->feed_forward;
    const size_t hidden = (size_t)args->up->in;

    if (mlp->norm.gamma) {
        struct tern_rows rows = tern_feed_forward_rows(args, n_rows, narrow);
        tern_norm_run_rows(par, &rows, args->up, normed, keep, input->sum, input->x, input->bias, input->residual,
                           n_rows, &mlp->norm);
        tern_feed_forward_run_rows(par, args, c, hidden, &rows, n_rows, inner, e, narrow);
    } else {
        tern_feed_forward_run(par, args, c, hidden, input->x, hidden, n_rows, inner, e, narrow);
    }
}
