/* arch_list.h: the families, one row each: TERN_ARCH(x) is tern_arch_x in arch/x.c. */
TERN_ARCH(gpt2)
