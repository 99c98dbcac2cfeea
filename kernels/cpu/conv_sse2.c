/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers for SSE2, which every x86-64 has (any machine: plain vectors): see conv_layers.h. */
#define LANES  4
#define NARROW 2
#define VECS   2
#define NAME   sse2
#include "kernels/cpu/conv_layers.h"
