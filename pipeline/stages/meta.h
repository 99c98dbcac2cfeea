/* SPDX-License-Identifier: GPL-3.0-or-later
 * Metadata of a network's ONNX file, read so that what is missing or wrong is refused with the file, the key and
 * what is wanted. Called by the readers of detection and cleaning networks (model.h, denoise_model.h). */
#ifndef GW_META_H
#define GW_META_H

#include "kernels/nn/onnx.h"

#include <stddef.h>
#include <stdint.h>

/* All: GW_OK or GW_EFORMAT. *text belongs to the file. */
int gw_meta_text(const gw_onnx *o, const char *key, const char **text); /* there, and not empty */
int gw_meta_copy(const gw_onnx *o, const char *key, char *to, size_t n);
int gw_meta_count(const gw_onnx *o, const char *key, int64_t min, int64_t max, uint32_t *value);

#endif
