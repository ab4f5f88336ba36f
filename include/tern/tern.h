/* tern.h: everything.  Transformer inference on the CPU; start with generate.h, or with op.h for single operators. */
#ifndef TERN_TERN_H
#define TERN_TERN_H

#include <tern/chat.h>
#include <tern/embed.h>
#include <tern/function.h>
#include <tern/generate.h>
#include <tern/machine.h>
#include <tern/module.h>
#include <tern/moe.h>
#include <tern/quantize.h>
#include <tern/score.h>
#include <tern/shape.h>
#include <tern/trace.h>
#include <tern/tune.h>
#include <tern/verify.h>
#include <tern/version.h>
#include <tern/worker.h>
#include <tern/workspace.h>

#endif
