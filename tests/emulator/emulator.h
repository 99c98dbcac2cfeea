/* SPDX-License-Identifier: GPL-3.0-or-later
 * Between the emulator's two halves: emulator.cc (who runs when) and runtime.cc (memory). */
#ifndef GW_EMULATOR_INSIDE_H
#define GW_EMULATOR_INSIDE_H

#include "cuda_runtime.h"

enum { GW_EMU_PLAIN_SHARED = 48 << 10, GW_EMU_MOST_SHARED = 227 << 10 };

/* Ends the program with what is wrong, where in the source, and for which thread. */
[[noreturn]] void gw_emu_die(const char *what, const char *file = nullptr, int line = 0);

/* What cudaFuncSetAttribute has allowed the kernel. */
size_t gw_emu_most_dyn_shared(const void *kernel);

/* While one is alive the device's memory may be touched. */
struct gw_emu_opened {
    gw_emu_opened();
    ~gw_emu_opened();
};

#endif
