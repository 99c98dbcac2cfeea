/* SPDX-License-Identifier: GPL-3.0-or-later
 * CURVE keys for links and live sources. Key files are ZeroMQ certificates as CZMQ and pyzmq (zmq.auth) read
 * and write them: NAME.key holds the public key, NAME.key_secret both. */
#ifndef GW_KEYS_H
#define GW_KEYS_H

#include "pipeline/error.h"

#include <stddef.h>

enum { GW_KEY_TEXT = 41 }; /* 40 characters of Z85 and a NUL */

/* One end's view of an encrypted link. */
typedef struct gw_keys {
    char own_public[GW_KEY_TEXT], own_secret[GW_KEY_TEXT];
    char server[GW_KEY_TEXT]; /* a connecting end: the listener's public key */
} gw_keys;

/* `gwstream keygen`: writes NAME.key and NAME.key_secret (mode 0600). GW_EBUSY if either exists. */
int gw_keys_generate(const char *name);
/* Reads NAME.key_secret into own_*; GW_EACCESS when others may read the file. */
int gw_keys_load(gw_keys *k, const char *name);
/* Reads the public key of FILE (NAME.key, or NAME with .key to be appended). */
int gw_keys_load_public(char text[GW_KEY_TEXT], const char *name);

/* Gives a socket its CURVE options before bind or connect. */
int gw_keys_apply(const gw_keys *k, void *socket, int listens);

/* Listening sockets of a context accept only clients whose public key was allowed here (ZAP, RFC 27): starts
 * the context's one handler thread. allow() may be called at any time. Without a guard a CURVE server accepts
 * any client that knows the server's public key, so a listener with keys always gets one. */
typedef struct gw_guard gw_guard;
int gw_guard_new(gw_guard **g, void *zmq);
int gw_guard_allow(gw_guard *g, const char public_key[GW_KEY_TEXT]);
void gw_guard_destroy(gw_guard **g); /* before zmq_ctx_term */

#endif
