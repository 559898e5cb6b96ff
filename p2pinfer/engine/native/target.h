/* Compile what follows for an instruction set that the machine may not have: `cpu.c` asks it first. */
#ifndef P2PINFER_TARGET_H
#define P2PINFER_TARGET_H

#define TARGET_TEXT(x) _Pragma(#x)
#if defined(__clang__)
#define TARGET(set) TARGET_TEXT(clang attribute push(__attribute__((target(set))), apply_to = function))
#define TARGET_END _Pragma("clang attribute pop")
#else
#define TARGET(set) _Pragma("GCC push_options") TARGET_TEXT(GCC target(set))
#define TARGET_END _Pragma("GCC pop_options")
#endif

#if defined(TILES_EMULATED)
#define AMX_TARGET ""
#else
#define AMX_TARGET ",amx-tile,amx-int8"
#endif

#endif
