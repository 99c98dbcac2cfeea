/* SPDX-License-Identifier: GPL-3.0-or-later
 * A graph over several processes: the file's `nodes` map, and from it the way of each link that crosses from
 * one to another. Every process reads the whole file, so both ends of a link come to the same address by
 * themselves. Used by graph.c; input.c and output.c open what is decided here. Runs nothing.
 *
 *   nodes:
 *     front: {}                                                       this host
 *     back: {host: 10.0.0.2, ports: 5700, listen: 0.0.0.0, key: keys/back}
 *
 * Links that do not cross, and all links where one process runs the whole file, are inproc. */
#ifndef GW_ROUTE_H
#define GW_ROUTE_H

#include "pipeline/config.h"
#include "pipeline/keys.h"
#include "pipeline/link.h"

enum { GW_MAX_PROCESSES = 64, GW_ADDRESS_BYTES = 128 };

typedef struct gw_process {
    const char *name;
    gw_conf *conf;
    const char *host, *listen, *key; /* host, key: "" = none. Text of the file */
    int64_t ports;                   /* the first tcp port it listens at */
    bool insecure;
    int tcp_lanes; /* given out so far */
    gw_keys keys;  /* for links that it listens for: our own, and its public key */
} gw_process;

typedef struct gw_processes {
    gw_process item[GW_MAX_PROCESSES];
    int n; /* 0: the file has no `nodes` */
} gw_processes;

int gw_processes_read(gw_processes *p, gw_conf *root);
gw_process *gw_process_find(gw_processes *p, const char *name);
/* Reads `node` of a part: required where there are nodes, refused where there are none. */
int gw_process_of(gw_processes *p, gw_conf *part, const char *name, gw_process **out);
/* Our own secret, everybody's public key. `own` is one of p. Without a `key` there is nothing to do. */
int gw_processes_load_keys(gw_processes *p, const gw_process *own);

/* How a link goes. */
typedef struct gw_route {
    bool across; /* from one process to another */
    gw_transport transport;
    int lanes;
    const gw_process *from, *to;
    char inproc[32];                /* its address when both ends are in one process */
    char address[GW_ADDRESS_BYTES]; /* otherwise: where the receiver connects */
    char bind[GW_ADDRESS_BYTES];    /* and where the sender listens */
} gw_route;

/* What a taking part says about the links it takes from: keys `link` and `lanes`. */
typedef struct gw_route_wish {
    gw_conf *conf;
    int transport; /* -1: none */
    int64_t lanes;
} gw_route_wish;
int gw_route_wish_read(gw_route_wish *w, gw_conf *part);

/* Decides the way of a link of n_channels. `number`: of the link in its graph; `what`: a text that both ends
 * know and no other link of the file has, `file`: the graph's file. */
int gw_route_decide(gw_route *r, gw_process *from, gw_process *to, const gw_route_wish *w, int number,
                    uint32_t n_channels, const char *file, const char *what);
/* Fills transport, address, listen, lanes, crc and keys of `c`. together: both ends are in this process. */
void gw_route_conf(const gw_route *r, bool sender, bool together, gw_link_conf *c);

#endif
