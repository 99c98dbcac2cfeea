/* SPDX-License-Identifier: GPL-3.0-or-later
 * The parts of a recording: what hdf5_out.c, which owns the tables, asks of out_file.c, which owns the file,
 * and of gwpy_out.c and wide_out.c, which own the datasets of samples. Nobody else includes this. The caller
 * of all but `write` holds the HDF5 lock. */
#ifndef GW_HDF5_LAYOUT_H
#define GW_HDF5_LAYOUT_H

#include "sinks/hdf5_out.h"
#include "sinks/hdf5_put.h"

/* A row of the table dq. */
typedef struct gw_out_row {
    int64_t sample0, n_samples;
    uint64_t dq;
    uint32_t flags, gap_reason;
    uint64_t networks;
} gw_out_row;

typedef struct gw_out_stream {
    const gw_spec *spec;
    bool in_group; /* gwpy: its datasets stand in a group named after it */
    bool begun;    /* its objects are in the file */
    bool came;     /* something has come */
    hid_t group;   /* /gwstream/<stream> */
    hid_t memory;  /* type of a view's elements; < 0: they are no numbers */
    gw_hdf5_table dq, absent;
    char *absent_row;   /* {sample0, n_samples, bits}, as in the table */
    int64_t sample0;    /* the datasets' first */
    int64_t limit;      /* they do not grow beyond it */
    int64_t start, end; /* what came */
    int64_t safe;       /* what came until the last flush */
    int64_t extent;     /* samples the datasets hold */
    int64_t gap_samples, gap_by_reason[GW_GAP_REASON_COUNT];
    void *samples; /* the layout's own */
} gw_out_stream;

struct gw_hdf5_out {
    gw_hdf5_out_conf c;
    char *path;
    hid_t file, root; /* < 0 once finished */
    gw_out_stream *stream;
    size_t pending_bytes; /* that may wait for a place in the file; layouts add theirs */
    bool broken;          /* a write failed */
};

/* GW_EIO with file, `what` and HDF5's reason; nothing is written from then on. */
int gw_out_fail(gw_hdf5_out *o, const char *what);
hid_t gw_out_type(gw_dtype t);

/* out_file.c */
hid_t gw_out_file_create(const gw_hdf5_out *o); /* o->file; < 0 for HDF5's reasons */
int gw_out_file_hand_over(gw_hdf5_out *o); /* all that HDF5 holds to the system, and to the disk if `sync` */
bool gw_out_file_bury(
    const gw_hdf5_out *o);             /* after a failed write: whether the file may be closed after all */
int gw_out_file_close(gw_hdf5_out *o); /* when all of its objects are closed */

/* Each layout. */
typedef struct gw_layout_ops {
    const char *name;
    int (*begin)(gw_hdf5_out *o, gw_out_stream *s);                   /* makes the datasets */
    int (*extend)(gw_hdf5_out *o, gw_out_stream *s, int64_t samples); /* so long, seen from sample0 */
    int (*write)(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v); /* takes the lock; extends */
    int (*settle)(gw_hdf5_out *o, gw_out_stream *s);                  /* what waits in memory */
    void (*close)(gw_out_stream *s, bool touch); /* `touch` false: leave the library's handles alone */
} gw_layout_ops;
extern const gw_layout_ops gw_gwpy_ops, gw_wide_ops;

#endif
