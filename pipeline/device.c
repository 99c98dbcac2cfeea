/* SPDX-License-Identifier: GPL-3.0-or-later
 * The device of this process, where it has one. What a device does is its own business (device.h). */
#include "pipeline/device.h"

static const gw_device *device;

void gw_device_set(const gw_device *d)
{
    device = d;
}

const gw_device *gw_device_get(void)
{
    return device;
}
