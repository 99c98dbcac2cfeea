/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pipeline/stages/attribute.h"

#include <string.h>

bool gw_attribute_put(hid_t file, const char *key, hid_t type, const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR),
                a = H5Acreate2(file, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool well = a >= 0 && H5Awrite(a, type, value) >= 0;
    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return well;
}

bool gw_attribute_get(hid_t file, const char *key, hid_t type, void *value)
{
    const hid_t a = H5Aexists(file, key) > 0 ? H5Aopen(file, key, H5P_DEFAULT) : -1;
    const hid_t space = a >= 0 ? H5Aget_space(a) : -1, is = a >= 0 ? H5Aget_type(a) : -1;
    const bool well = space >= 0 && H5Sget_simple_extent_npoints(space) == 1 &&
                      H5Tget_class(is) == H5Tget_class(type) && H5Aread(a, type, value) >= 0;
    if (is >= 0)
        H5Tclose(is);
    if (space >= 0)
        H5Sclose(space);
    if (a >= 0)
        H5Aclose(a);
    return well;
}

bool gw_attribute_put_text(hid_t file, const char *key, const char *text)
{
    const hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, strlen(text) + 1);
    const bool well = gw_attribute_put(file, key, t, text);
    H5Tclose(t);
    return well;
}

bool gw_attribute_get_text(hid_t file, const char *key, char *text, size_t n)
{
    memset(text, 0, n);
    const hid_t a = H5Aexists(file, key) > 0 ? H5Aopen(file, key, H5P_DEFAULT) : -1;
    const hid_t is = a >= 0 ? H5Aget_type(a) : -1;
    const bool fixed =
        is >= 0 && H5Tget_class(is) == H5T_STRING && H5Tis_variable_str(is) == 0 && H5Tget_size(is) <= n;
    if (is >= 0)
        H5Tclose(is);
    if (a >= 0)
        H5Aclose(a);
    const hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, n);
    const bool well = fixed && gw_attribute_get(file, key, t, text);
    H5Tclose(t);
    return well;
}
