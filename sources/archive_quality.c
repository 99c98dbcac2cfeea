/* SPDX-License-Identifier: GPL-3.0-or-later
 * Where an archived channel is good: GWOSC's masks and our recordings' tables, as runs. Called by
 * archive_layout.c under the HDF5 lock. Says what the file says; what follows from it is replay.c's. */
#include "pipeline/hdf5_lock.h"
#include "sources/archive_layout.h"
#include "sources/hdf5_read.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Appends a run, or lengthens the last one if nothing changes. */
static int add_run(gw_archive_channel *c, size_t *room, gw_archive_run r)
{
    gw_archive_run *last = c->n_runs ? &c->run[c->n_runs - 1] : NULL;
    if (last && last->dq == r.dq && last->flags == r.flags && last->networks == r.networks &&
        last->gap == r.gap) {
        last->end = r.end;
        return GW_OK;
    }
    if (c->n_runs == *room) {
        size_t more = *room ? *room * 2 : 1;
        gw_archive_run *run = realloc(c->run, more * sizeof *run);
        if (!run)
            return gw_fail(GW_ENOMEM, "%zu runs of data quality", more);
        c->run = run;
        *room = more;
    }
    c->run[c->n_runs++] = r;
    return GW_OK;
}

int gw_archive_all_good(gw_archive_channel *c)
{
    size_t room = 0;
    return add_run(c, &room, (gw_archive_run){.end = c->n_samples, .dq = GW_DQ_ALL});
}

/* ---- GWOSC ---- */

enum { MAX_BITS = 32, SHORTNAME_BYTES = 40 };

static const struct {
    const char *name;
    uint64_t bit;
} short_names[] = {{"DATA", GW_DQ_DATA},
                   {"CBC_CAT1", GW_DQ_CBC_CAT1},
                   {"CBC_CAT2", GW_DQ_CBC_CAT2},
                   {"CBC_CAT3", GW_DQ_CBC_CAT3},
                   {"BURST_CAT1", GW_DQ_BURST_CAT1},
                   {"BURST_CAT2", GW_DQ_BURST_CAT2},
                   {"BURST_CAT3", GW_DQ_BURST_CAT3},
                   {"NO_CBC_HW_INJ", GW_DQ_NO_CBC_HW_INJ},
                   {"NO_BURST_HW_INJ", GW_DQ_NO_BURST_HW_INJ},
                   {"NO_DETCHAR_HW_INJ", GW_DQ_NO_DETCHAR_HW_INJ},
                   {"NO_CW_HW_INJ", GW_DQ_NO_CW_HW_INJ},
                   {"NO_STOCH_HW_INJ", GW_DQ_NO_STOCH_HW_INJ}};

typedef struct mask {
    uint32_t *value; /* [n], NULL where the file has no such mask */
    int64_t n;
    double start_s, step_s;
    uint64_t bit[MAX_BITS]; /* ours for each of its bits; 0 = unknown */
} mask;

static int read_mask_data(hid_t dataset, double start_s, mask *m)
{
    bool found;
    m->start_s = start_s;
    m->step_s = 1;
    if (!gw_hdf5_is_number(dataset))
        return gw_fail(GW_EFORMAT, "does not hold numbers");
    GW_TRY(gw_hdf5_length(dataset, &m->n));
    GW_TRY(gw_hdf5_attr_double(dataset, "Xstart", &m->start_s, &found));
    GW_TRY(gw_hdf5_attr_double(dataset, "Xspacing", &m->step_s, &found));
    if (!isfinite(m->start_s) || !(m->step_s > 0) || !isfinite(m->step_s))
        return gw_fail(GW_EFORMAT, "Xstart %g s, Xspacing %g s are absurd", m->start_s, m->step_s);
    if (m->n > 1 << 26)
        return gw_fail(GW_EFORMAT, "%" PRId64 " values are absurd", m->n);
    m->value = malloc(((size_t)m->n + 1) * sizeof *m->value);
    if (!m->value)
        return gw_fail(GW_ENOMEM, "%" PRId64 " values", m->n);
    if (H5Dread(dataset, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, m->value) < 0)
        return gw_fail(GW_EFORMAT, "%s", gw_hdf5_reason());
    return GW_OK;
}

static int read_mask_names(hid_t names, mask *m)
{
    char name[MAX_BITS][SHORTNAME_BYTES];
    int count;
    GW_TRY(gw_hdf5_texts(names, name[0], sizeof *name, MAX_BITS, &count));
    for (int i = 0; i < count; i++)
        for (size_t k = 0; k < sizeof short_names / sizeof *short_names; k++)
            if (!strcmp(name[i], short_names[k].name))
                m->bit[i] = short_names[k].bit;
    return GW_OK;
}

static int read_mask(hid_t file, const char *data_path, const char *names_path, double start_s, mask *m)
{
    hid_t data = gw_hdf5_open_dataset(file, data_path);
    if (data < 0)
        return GW_OK;
    int err = read_mask_data(data, start_s, m);
    H5Oclose(data);
    if (err < 0)
        return gw_fail_at(err, "%s", data_path);
    hid_t names = gw_hdf5_open_dataset(file, names_path);
    if (names < 0)
        return gw_fail(GW_EFORMAT, "%s is missing: nothing says what the bits of %s mean", names_path,
                       data_path);
    err = read_mask_names(names, m);
    H5Oclose(names);
    return err < 0 ? gw_fail_at(err, "%s", names_path) : GW_OK;
}

/* Mask value k covers [k, k + 1) steps from the mask's start. Clears in *dq what fails at sample i, and
 * lowers *end to where the value ends. */
static int apply_mask(const mask *m, const char *path, double start_s, const gw_archive_channel *c, int64_t i,
                      uint64_t *dq, int64_t *end)
{
    if (!m->value)
        return GW_OK;
    const double hz = gw_rate_hz(c->rate), offset_s = start_s - m->start_s;
    double k = floor((offset_s + ((double)i + 0.5) / hz) / m->step_s); /* the half keeps rounding away */
    if (k < 0 || k >= (double)m->n)
        return gw_fail(GW_EFORMAT, "%s: %" PRId64 " values from GPS %.3f do not cover the strain", path, m->n,
                       m->start_s);
    for (int b = 0; b < MAX_BITS; b++)
        if (!(m->value[(int64_t)k] >> b & 1u))
            *dq &= ~m->bit[b];
    double until = nearbyint(((k + 1) * m->step_s - offset_s) * hz);
    if (until < (double)*end)
        *end = until > (double)i ? (int64_t)until : i + 1;
    return GW_OK;
}

static const char DQMASK[] = "quality/simple/DQmask", INJMASK[] = "quality/injections/Injmask";

static int gwosc_runs(const mask *dqmask, const mask *injmask, double start_s, gw_archive_channel *c)
{
    size_t room = 0;
    for (int64_t i = 0; i < c->n_samples;) {
        gw_archive_run r = {.end = c->n_samples, .dq = GW_DQ_ALL};
        GW_TRY(apply_mask(dqmask, DQMASK, start_s, c, i, &r.dq, &r.end));
        GW_TRY(apply_mask(injmask, INJMASK, start_s, c, i, &r.dq, &r.end));
        GW_TRY(add_run(c, &room, r));
        i = r.end;
    }
    c->quality = dqmask->value != NULL;
    return GW_OK;
}

/* True without a word when there is no such group: H5Oopen of a longer path would fail all the same. */
int gw_archive_gwosc_quality(hid_t file, double start_s, gw_archive_channel *c)
{
    mask dqmask = {0}, injmask = {0};
    int err = read_mask(file, DQMASK, "quality/simple/DQShortnames", start_s, &dqmask);
    if (err == GW_OK)
        err = read_mask(file, INJMASK, "quality/injections/InjShortnames", start_s, &injmask);
    if (err == GW_OK)
        err = gwosc_runs(&dqmask, &injmask, start_s, c);
    free(dqmask.value);
    free(injmask.value);
    return err;
}

/* ---- recorded ---- */

/* One row of /gwstream/<stream>/dq. */
typedef struct row {
    int64_t sample0, n_samples;
    uint64_t dq;
    uint32_t flags, gap_reason;
    uint64_t networks; /* 0 where the file is older */
} row;

static hid_t row_type(void)
{
    hid_t t = H5Tcreate(H5T_COMPOUND, sizeof(row));
    if (t < 0)
        return t;
    H5Tinsert(t, "sample0", offsetof(row, sample0), H5T_NATIVE_INT64);
    H5Tinsert(t, "n_samples", offsetof(row, n_samples), H5T_NATIVE_INT64);
    H5Tinsert(t, "dq", offsetof(row, dq), H5T_NATIVE_UINT64);
    H5Tinsert(t, "flags", offsetof(row, flags), H5T_NATIVE_UINT32);
    H5Tinsert(t, "networks", offsetof(row, networks), H5T_NATIVE_UINT64);
    H5Tinsert(t, "gap_reason", offsetof(row, gap_reason), H5T_NATIVE_UINT32);
    return t;
}

static int read_rows(hid_t group, row **rows, int64_t *n)
{
    hid_t dataset = gw_hdf5_open_dataset(group, "dq"), type = row_type();
    int err =
        dataset < 0 || type < 0 ? gw_fail(GW_EFORMAT, "dataset dq is missing") : gw_hdf5_length(dataset, n);
    if (err == GW_OK && *n > 1 << 28)
        err = gw_fail(GW_EFORMAT, "dq: %" PRId64 " rows are absurd", *n);
    if (err == GW_OK && !(*rows = calloc((size_t)*n + 1, sizeof **rows)))
        err = gw_fail(GW_ENOMEM, "dq: %" PRId64 " rows", *n);
    if (err == GW_OK && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *rows) < 0)
        err = gw_fail(GW_EFORMAT, "dq: %s", gw_hdf5_reason());
    if (type >= 0)
        H5Tclose(type);
    if (dataset >= 0)
        H5Oclose(dataset);
    return err;
}

/* A stretch of `r` up to `end`, seen from the first row; where the dataset does not reach it is a hole. */
static int add_part(gw_archive_channel *c, size_t *room, gw_archive_run r, int64_t from, int64_t end)
{
    const int64_t lo = -c->skip, hi = c->n_data - c->skip; /* the dataset */
    const gw_archive_run hole = {.dq = GW_DQ_ALL, .gap = GW_GAP_ABSENT};
    const bool needs_data = r.gap == GW_GAP_NONE;
    gw_archive_run before = hole, after = hole;
    before.end = !needs_data || lo <= from ? from : lo < end ? lo : end;
    r.end = !needs_data || hi >= end ? end : hi > before.end ? hi : before.end;
    after.end = end;
    if (before.end > from)
        GW_TRY(add_run(c, room, before));
    if (r.end > before.end)
        GW_TRY(add_run(c, room, r));
    return after.end > r.end ? add_run(c, room, after) : GW_OK;
}

/* A recorder that was killed in the middle of a flush leaves rows that were made room for and not written
 * yet. */
static bool is_blank(const row *r)
{
    return r->n_samples == 0 && r->sample0 == 0;
}

/* The rows tile what was recorded: a stretch without a row is a hole (nothing is known of it), and so is a
 * row without its samples. */
static int runs_of_rows(const row *rows, int64_t n, gw_archive_channel *c)
{
    size_t room = 0;
    int64_t at = 0;
    free(c->run);
    c->run = NULL;
    c->n_runs = 0;
    c->n_samples = 0;
    while (n > 0 && is_blank(rows)) {
        rows++;
        n--;
    }
    if (n == 0)
        return GW_OK;
    const int64_t base = rows[0].sample0;
    if (__builtin_sub_overflow(base, c->sample0, &c->skip) || llabs(c->skip / 2) > INT64_MAX / 8)
        return gw_fail(GW_EFORMAT, "dq: sample0 %" PRId64 " is absurd", base);
    c->sample0 = base;
    for (int64_t i = 0; i < n; i++) {
        const row *r = &rows[i];
        int64_t from, end;
        if (is_blank(r))
            continue;
        if (r->n_samples < 1 || __builtin_sub_overflow(r->sample0, base, &from) || from < at ||
            __builtin_add_overflow(from, r->n_samples, &end) || end > INT64_MAX / 4 ||
            ((double)base + (double)end) / gw_rate_hz(c->rate) + (double)c->phase_ns * 1e-9 > 9e9)
            return gw_fail(GW_EFORMAT,
                           "dq: row %" PRId64 " (sample0 %" PRId64 ", %" PRId64 " samples) is out of order",
                           i, r->sample0, r->n_samples);
        const gw_archive_run hole = {.end = from, .dq = GW_DQ_ALL, .gap = GW_GAP_ABSENT};
        if (from > at)
            GW_TRY(add_run(c, &room, hole));
        const bool known = r->gap_reason < GW_GAP_REASON_COUNT;
        const gw_archive_run run = {.dq = r->dq,
                                    .flags = r->flags & GW_FLAG_INJECTION,
                                    .networks = r->networks,
                                    .gap = known ? (gw_gap_reason)r->gap_reason : GW_GAP_ABSENT};
        GW_TRY(add_part(c, &room, run, from, end));
        at = end;
    }
    c->n_samples = at;
    return GW_OK;
}

/* ---- absent channels ---- */

static hid_t absence_type(uint32_t channels)
{
    const hsize_t bytes = (channels + 7) / 8;
    hid_t bits = H5Tarray_create2(H5T_NATIVE_UINT8, 1, &bytes);
    hid_t t = bits < 0 ? -1 : H5Tcreate(H5T_COMPOUND, 2 * sizeof(int64_t) + bytes);
    if (t >= 0) {
        H5Tinsert(t, "sample0", 0, H5T_NATIVE_INT64);
        H5Tinsert(t, "n_samples", sizeof(int64_t), H5T_NATIVE_INT64);
        H5Tinsert(t, "present", 2 * sizeof(int64_t), bits);
    }
    if (bits >= 0)
        H5Tclose(bits);
    return t;
}

static int absences_of_rows(const char *rows, int64_t n, uint32_t channels, gw_archive_channel *c)
{
    const size_t bits = (channels + 7) / 8, bytes = 2 * sizeof(int64_t) + bits;
    c->absence = calloc((size_t)n, sizeof *c->absence);
    c->present = malloc((size_t)n * bits);
    if (!c->absence || !c->present)
        return gw_fail(GW_ENOMEM, "absent: %" PRId64 " rows", n);
    int64_t at = INT64_MIN;
    size_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t span[2], from, end;
        memcpy(span, rows + (size_t)i * bytes, sizeof span);
        if (span[0] == 0 && span[1] == 0)
            continue; /* as above */
        if (span[1] < 1 || __builtin_sub_overflow(span[0], c->sample0, &from) || from < at ||
            __builtin_add_overflow(from, span[1], &end))
            return gw_fail(GW_EFORMAT,
                           "absent: row %" PRId64 " (sample0 %" PRId64 ", %" PRId64
                           " samples) is out of order",
                           i, span[0], span[1]);
        uint8_t *present = c->present + kept * bits;
        memcpy(present, rows + (size_t)i * bytes + sizeof span, bits);
        c->absence[kept++] = (gw_archive_absence){from, end, present};
        at = end;
    }
    c->n_absences = kept;
    return GW_OK;
}

static int read_absences(hid_t group, uint32_t channels, gw_archive_channel *c)
{
    int64_t n = 0;
    char *rows = NULL;
    hid_t dataset = gw_hdf5_open_dataset(group, "absent"), type = -1;
    if (dataset < 0) /* a recording of an older version */
        return GW_OK;
    int err = gw_hdf5_length(dataset, &n);
    const size_t bytes = 2 * sizeof(int64_t) + (channels + 7) / 8;
    if (err == GW_OK && n > (int64_t)((size_t)1 << 32) / (int64_t)bytes)
        err = gw_fail(GW_EFORMAT, "absent: %" PRId64 " rows are absurd", n);
    if (err == GW_OK && n > 0) {
        rows = malloc((size_t)n * bytes);
        type = absence_type(channels);
        err = !rows ? gw_fail(GW_ENOMEM, "absent: %" PRId64 " rows", n)
              : type < 0 || H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) < 0
                  ? gw_fail(GW_EFORMAT, "absent: %s", gw_hdf5_reason())
                  : absences_of_rows(rows, n, channels, c);
    }
    free(rows);
    if (type >= 0)
        H5Tclose(type);
    H5Oclose(dataset);
    return err;
}

int gw_archive_recorded_quality(hid_t group, uint32_t stream_channels, gw_archive_channel *c)
{
    row *rows = NULL;
    int64_t n = 0;
    int err = read_rows(group, &rows, &n);
    if (err == GW_OK)
        err = runs_of_rows(rows, n, c);
    free(rows);
    return err < 0 || c->n_samples == 0 ? err : read_absences(group, stream_channels, c);
}
