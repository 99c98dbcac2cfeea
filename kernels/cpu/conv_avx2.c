/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers for AVX2 and FMA: see conv_layers.h. */
#define LANES  8
#define NARROW 4
#define VECS   2
#define NAME   avx2
#include "kernels/cpu/conv_layers.h"
