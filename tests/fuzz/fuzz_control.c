/* SPDX-License-Identifier: GPL-3.0-or-later
 * Any bytes as a control message from outside: as they are, and once more with magic, version and CRC mended,
 * because no random change survives a CRC. What is accepted reads back the same after it was sealed anew, and
 * one wrong bit in it is seen. */
#include "pipeline/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort(); /* what a fuzzer understands */
}

static void read_one(const void *data, size_t size)
{
    gw_control c, again;
    const int err = gw_control_read(data, size, &c);
    if (err) {
        check(err == GW_EFORMAT && *gw_err_detail());
        return;
    }
    check(size == GW_CONTROL_BYTES && gw_is_control(data, size));
    check(c.type >= GW_HELLO && c.type <= GW_GONE && c.text_bytes <= GW_WIRE_TEXT_MAX);
    gw_control mine = c;
    gw_control_seal(&mine);
    check(!memcmp(&mine, &c, sizeof c));
    check(gw_control_read(&mine, sizeof mine, &again) == GW_OK && !memcmp(&again, &c, sizeof c));
    for (size_t i = 0; i < sizeof mine; i += 7) {
        mine = c;
        ((uint8_t *)&mine)[i] ^= (uint8_t)(1u << i % 8);
        check(gw_control_read(&mine, sizeof mine, &again) == GW_EFORMAT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)gw_is_control(data, size);
    read_one(data, size);
    if (size >= GW_CONTROL_BYTES) {
        gw_control c;
        memcpy(&c, data, sizeof c);
        gw_control_seal(&c);
        read_one(&c, sizeof c);
    }
    return 0;
}
