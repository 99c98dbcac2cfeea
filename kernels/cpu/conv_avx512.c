/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers for AVX-512 F: see conv_layers.h. */
#define LANES  16
#define NARROW 8
#define VECS   4
#define NAME   avx512
#include "kernels/cpu/conv_layers.h"
