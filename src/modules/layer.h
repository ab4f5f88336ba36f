/* layer.h: the inside of a layer, for a model that is put together from layers. */
#ifndef TERN_MODULES_LAYER_H
#define TERN_MODULES_LAYER_H

#include "modules/block.h"

/* The block that a layer was bound to; valid as long as the layer. */
const struct tern_block *tern_layer_block(const tern_layer *layer);

#endif
