/* SPDX-License-Identifier: GPL-3.0-or-later
 * The builds of conv_layers.h, for conv.c. Each fills the whole family. */
#ifndef GW_CPU_CONV_TABLE_H
#define GW_CPU_CONV_TABLE_H

#include "kernels/conv.h"

void gw_conv_sse2(gw_conv_ops *ops);
void gw_conv_avx2(gw_conv_ops *ops);
void gw_conv_avx512(gw_conv_ops *ops);

#endif
