/* SPDX-License-Identifier: GPL-3.0-or-later
 * Metadata of a network's file, see meta.h. */
#include "pipeline/stages/meta.h"
#include "pipeline/config.h"

#include <inttypes.h>
#include <string.h>

int gw_meta_text(const gw_onnx *o, const char *key, const char **text)
{
    *text = gw_onnx_meta(o, key);
    if (!*text || !**text)
        return gw_fail(GW_EFORMAT, "%s: no metadata '%s', want a network of this kind as training/ writes it",
                       o->path, key);
    return GW_OK;
}

int gw_meta_copy(const gw_onnx *o, const char *key, char *to, size_t n)
{
    const char *text;
    GW_TRY(gw_meta_text(o, key, &text));
    if (strlen(text) >= n)
        return gw_fail(GW_EFORMAT, "%s: metadata %s has %zu characters, at most %zu are possible", o->path,
                       key, strlen(text), n - 1);
    memcpy(to, text, strlen(text) + 1);
    return GW_OK;
}

int gw_meta_count(const gw_onnx *o, const char *key, int64_t min, int64_t max, uint32_t *value)
{
    const char *text;
    int64_t v;
    GW_TRY(gw_meta_text(o, key, &text));
    if (gw_parse_int(text, &v) != GW_OK || v < min || v > max)
        return gw_fail(GW_EFORMAT,
                       "%s: metadata %s is '%.40s', want a whole number from %" PRId64 " to %" PRId64,
                       o->path, key, text, min, max);
    *value = (uint32_t)v;
    return GW_OK;
}
