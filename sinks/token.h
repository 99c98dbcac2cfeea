/* SPDX-License-Identifier: GPL-3.0-or-later
 * A bearer token from a command: whatever the site has for it (curl to a token endpoint, htgettoken, a file).
 * It prints the endpoint's own answer, {"access_token": "...", "expires_in": 3600}, or the bare token. Called
 * by a courier's thread. Tokens are never logged. */
#ifndef GW_TOKEN_H
#define GW_TOKEN_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdint.h>

enum { GW_TOKEN_BYTES = 16384 };

/* Runs `command` by /bin/sh for at most 10 s; one that has not ended then, whatever it has printed or closed, is
 * killed with its process group. *seconds: how long the token lives (300 where it does not say).
 * GW_EACCESS with the command's last line of error, GW_EFORMAT when it prints something else. */
int gw_token_fetch(const char *command, char *token, size_t size, int64_t *seconds);

#endif
