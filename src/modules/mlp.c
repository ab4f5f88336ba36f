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
                  const struct tern_mlp_input *input, float *normed, size_t n_rows, float *inner,
                  const struct tern_epilogue *e, void *narrow)
{
    const size_t hidden = (size_t)mlp->feed_forward.up->in;
    const float *x = input->x;

    if (mlp->norm.gamma) {
        tern_norm_run(par, normed, input->sum, x, input->bias, input->residual, n_rows, hidden, &mlp->norm);
        x = normed;
    }
    tern_feed_forward_run(par, &mlp->feed_forward, c, hidden, x, hidden, n_rows, inner, e, narrow);
}
