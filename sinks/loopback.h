/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which hosts of an address are this one. */
#ifndef GW_LOOPBACK_H
#define GW_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>

/* host: n bytes, as an address in the configuration has it: localhost, 127.0.0.0/8 in full, or [::1]. No name but
 * the one is looked up: 127.example.org may be anywhere. */
bool gw_host_is_loopback(const char *host, size_t n);

#endif
