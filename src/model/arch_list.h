/* arch_list.h: the families, one row each: TERN_ARCH(x) is tern_arch_x in arch/. */
TERN_ARCH(gpt2)
TERN_ARCH(llama)
TERN_ARCH(mistral)
TERN_ARCH(qwen2)
TERN_ARCH(qwen3)
