/* SPDX-License-Identifier: GPL-3.0-or-later
 * What one core of this machine can do at most, measured when first asked for: the yardstick of the
 * harness's --bench and of `gwstream model bench`. Not part of any result. */
#ifndef GW_LIMIT_H
#define GW_LIMIT_H

double gw_limit_flop(void); /* float32 FLOP/s in fused multiply-adds (2 each), widest vectors there are */
double gw_limit_copy(void); /* bytes/s read plus written by memcpy between two arrays of 64 MiB */

#endif
