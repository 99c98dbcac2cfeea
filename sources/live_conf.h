/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the YAML of a live source says: its streams as they come and as they go on, where it listens, and who
 * may come. Called by live.c; the keys are listed in docs/graph.md. Reads key files, opens nothing. */
#ifndef GW_LIVE_CONF_H
#define GW_LIVE_CONF_H

#include "pipeline/config.h"
#include "pipeline/link.h"

typedef struct gw_live_stream {
    gw_spec wire;         /* what a client has to offer; what it leaves open stays 0 or "" */
    gw_spec out;          /* what the graph gets */
    double scale, offset; /* from the one to the other */
    char address[256];    /* of its first lane */
} gw_live_stream;

typedef struct gw_live_conf {
    gw_live_stream *stream; /* [n_streams] */
    int n_streams, lanes;
    bool paced;
    int64_t patience_ns, reorder_ns;
    int64_t credit; /* 0: for the source to choose */
    gw_transport transport;
    bool encrypted;
    gw_keys keys;
    char (*allowed)[GW_KEY_TEXT]; /* [n_allowed] */
    int n_allowed;
} gw_live_conf;

enum { GW_LIVE_MIN_CREDIT = 4, GW_LIVE_MAX_CREDIT = 1024 };

/* *l is zeroed by the caller, and freed by it also after a failure. At most max_streams. */
int gw_live_conf_read(gw_live_conf *l, gw_conf *conf, int max_streams);
void gw_live_conf_free(gw_live_conf *l);

#endif
