/* SPDX-License-Identifier: GPL-3.0-or-later
 * chance_file.h. Tables are int64 or float32, whatever the structures are. */
#include "pipeline/stages/chance_file.h"

#include "pipeline/block.h"
#include "pipeline/hdf5_lock.h"
#include "pipeline/stages/attribute.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLICE_ROWS = 1 << 16, TABLES = 6, MAX_TRIGGERS = 200000000, MAX_SPANS = 100000000 };
static const char format[] = "gwstream-background-1";

/* One list: an attribute each. */
#define NUMBERS(X, r)                                                                                        \
    X("hop_s", H5T_NATIVE_DOUBLE, &(r)->rules.hop_s)                                                         \
    X("hop_frames", H5T_NATIVE_UINT32, &(r)->rules.hop_frames)                                               \
    X("cluster_frames", H5T_NATIVE_UINT32, &(r)->rules.cluster_frames)                                       \
    X("need_hops", H5T_NATIVE_UINT32, &(r)->rules.need_hops)                                                 \
    X("now_hop", H5T_NATIVE_INT64, &(r)->memory.now)                                                         \
    X("floor", H5T_NATIVE_DOUBLE, &(r)->memory.floor)                                                        \
    X("slid_s", H5T_NATIVE_DOUBLE, &(r)->slid_s[0])                                                          \
    X("exclusive_slid_s", H5T_NATIVE_DOUBLE, &(r)->slid_s[1])                                                \
    X("distinct_s", H5T_NATIVE_DOUBLE, &(r)->distinct_s)
#define PUT_NUMBER(key, type, value) &&gw_attribute_put(file, key, type, value)
#define GET_NUMBER(key, type, value) &&gw_attribute_get(file, key, type, value)

/* -- tables ------------------------------------------------------------------------------------------ */

/* Numbers in rows, as they lie in the file. */
typedef struct table {
    const char *name;
    int wide;     /* numbers a row */
    bool real;    /* float32; else int64 */
    hsize_t rows; /* at most, where it is read */
    void *data;
} table;

static hid_t type_of(const table *t)
{
    return t->real ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT64;
}

static size_t row_bytes(const table *t)
{
    return (size_t)t->wide * (t->real ? sizeof(float) : sizeof(int64_t));
}

/* A slice at a time: whoever waits for the lock has his turn. */
static bool move_rows(hid_t set, const table *t, bool to_file)
{
    bool well = true;
    for (hsize_t at = 0; well && at < t->rows; at += SLICE_ROWS) {
        const hsize_t from[2] = {at, 0},
                      count[2] = {t->rows - at < SLICE_ROWS ? t->rows - at : SLICE_ROWS, (hsize_t)t->wide};
        const int rank = t->wide > 1 ? 2 : 1;
        void *data = (char *)t->data + at * row_bytes(t);
        const hid_t here = H5Screate_simple(rank, count, NULL), space = H5Dget_space(set);
        well = H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL) >= 0 &&
               (to_file ? H5Dwrite(set, type_of(t), here, space, H5P_DEFAULT, data)
                        : H5Dread(set, type_of(t), here, space, H5P_DEFAULT, data)) >= 0;
        H5Sclose(space);
        H5Sclose(here);
        gw_hdf5_unlock();
        gw_hdf5_lock();
    }
    return well;
}

/* In one piece, unpacked: a packed one that is damaged can crash the library. */
static bool write_table(hid_t file, const table *t)
{
    const hsize_t dims[2] = {t->rows, (hsize_t)t->wide};
    const hid_t space = H5Screate_simple(t->wide > 1 ? 2 : 1, dims, NULL);
    const hid_t set = H5Dcreate2(file, t->name, type_of(t), space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const bool well = set >= 0 && move_rows(set, t, true);
    if (set >= 0)
        H5Dclose(set);
    H5Sclose(space);
    return well;
}

/* Reads all rows into t->data, which it makes. */
static bool read_table(hid_t file, table *t)
{
    const hid_t set = H5Lexists(file, t->name, H5P_DEFAULT) > 0 ? H5Dopen2(file, t->name, H5P_DEFAULT) : -1;
    if (set < 0)
        return false;
    hsize_t dims[2] = {0, 1};
    const hid_t space = H5Dget_space(set), is = H5Dget_type(set);
    const int rank = t->wide > 1 ? 2 : 1;
    bool well = H5Sget_simple_extent_ndims(space) == rank &&
                H5Sget_simple_extent_dims(space, dims, NULL) >= 0 && dims[0] <= t->rows &&
                dims[1] == (hsize_t)t->wide && H5Dget_storage_size(set) == dims[0] * row_bytes(t) &&
                H5Tget_class(is) == (t->real ? H5T_FLOAT : H5T_INTEGER);
    t->rows = well ? dims[0] : 0;
    t->data = well ? calloc(t->rows + 1, row_bytes(t)) : NULL;
    well = t->data && move_rows(set, t, false);
    H5Tclose(is);
    H5Sclose(space);
    H5Dclose(set);
    return well;
}

enum { OFFSETS, STATISTICS, HOPS, FIT, WITHDRAWN, SPELLS };

static void name_tables(table t[TABLES])
{
    t[OFFSETS] = (table){"offset_hops", 1, false, 1000000, NULL};
    t[STATISTICS] = (table){"statistic", 1, true, MAX_TRIGGERS, NULL};
    t[HOPS] = (table){"hop", 2, false, MAX_TRIGGERS, NULL};
    t[FIT] = (table){"fit", 2, false, MAX_SPANS, NULL};
    t[WITHDRAWN] = (table){"withdrawn", 2, false, MAX_SPANS, NULL};
    t[SPELLS] = (table){"spells", 3, false, MAX_SPANS, NULL};
}

static void free_tables(table t[TABLES])
{
    for (int i = 0; i < TABLES; i++)
        free(t[i].data);
}

static uint32_t checksum(const table t[TABLES])
{
    uint32_t crc = 0;
    for (int i = 0; i < TABLES; i++)
        crc = gw_crc32c(crc, t[i].data, t[i].rows * row_bytes(&t[i]));
    return crc;
}

/* -- the record as tables, and back ------------------------------------------------------------------ */

static void fill_spans(int64_t *to, const gw_chance_span *span, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        to[2 * i] = span[i].from;
        to[2 * i + 1] = span[i].to;
    }
}

static bool to_tables(const gw_chance_record *r, table t[TABLES])
{
    const gw_chance_memory *m = &r->memory;
    const hsize_t rows[TABLES] = {r->n_slides, m->n_triggers,  m->n_triggers,
                                  m->n_fit,    m->n_withdrawn, m->n_spells};
    name_tables(t);
    bool whole = true;
    for (int i = 0; i < TABLES; i++) {
        t[i].rows = rows[i];
        whole &= (t[i].data = calloc(rows[i] + 1, row_bytes(&t[i]))) != NULL;
    }
    if (!whole)
        return false;
    for (uint32_t i = 0; i < r->n_slides; i++)
        ((int64_t *)t[OFFSETS].data)[i] = r->offset_hops[i];
    for (uint32_t i = 0; i < m->n_triggers; i++) {
        ((float *)t[STATISTICS].data)[i] = m->trigger[i].statistic;
        memcpy((int64_t *)t[HOPS].data + 2 * (size_t)i, m->trigger[i].hop, sizeof m->trigger[i].hop);
    }
    fill_spans(t[FIT].data, m->fit, m->n_fit);
    fill_spans(t[WITHDRAWN].data, m->withdrawn, m->n_withdrawn);
    for (uint32_t i = 0; i < m->n_spells; i++) {
        int64_t *row = (int64_t *)t[SPELLS].data + 3 * (size_t)i;
        row[0] = m->spell[i].from;
        row[1] = m->spell[i].slides;
        row[2] = m->spell[i].new_ring;
    }
    return true;
}

static bool take_spans(const table *t, gw_chance_span **span, uint32_t *n, uint32_t *max)
{
    const int64_t *row = t->data;
    *n = *max = (uint32_t)t->rows;
    *span = calloc(t->rows + 1, sizeof **span);
    for (uint32_t i = 0; *span && i < *n; i++)
        (*span)[i] = (gw_chance_span){row[2 * i], row[2 * i + 1]};
    return *span != NULL;
}

static bool from_tables(gw_chance_record *r, const table t[TABLES])
{
    gw_chance_memory *m = &r->memory;
    r->n_slides = (uint32_t)t[OFFSETS].rows;
    r->offset_hops = calloc(r->n_slides + 1, sizeof *r->offset_hops);
    m->n_triggers = m->max_triggers = (uint32_t)t[STATISTICS].rows;
    m->trigger = calloc(m->n_triggers + 1, sizeof *m->trigger);
    m->n_spells = m->max_spells = (uint32_t)t[SPELLS].rows;
    m->spell = calloc(m->n_spells + 1, sizeof *m->spell);
    if (!r->offset_hops || !m->trigger || !m->spell ||
        !take_spans(&t[FIT], &m->fit, &m->n_fit, &m->max_fit) ||
        !take_spans(&t[WITHDRAWN], &m->withdrawn, &m->n_withdrawn, &m->max_withdrawn))
        return false;
    for (uint32_t i = 0; i < r->n_slides; i++)
        r->offset_hops[i] = (int32_t)((int64_t *)t[OFFSETS].data)[i];
    for (uint32_t i = 0; i < m->n_triggers; i++) {
        m->trigger[i].statistic = ((float *)t[STATISTICS].data)[i];
        memcpy(m->trigger[i].hop, (int64_t *)t[HOPS].data + 2 * (size_t)i, sizeof m->trigger[i].hop);
    }
    for (uint32_t i = 0; i < m->n_spells; i++) {
        const int64_t *row = (int64_t *)t[SPELLS].data + 3 * (size_t)i;
        m->spell[i] = (gw_chance_spell){.from = row[0], .slides = (uint32_t)row[1], .new_ring = row[2] != 0};
    }
    return true;
}

/* What a crc cannot know: that it makes sense. A century of hops bounds all times. */
static bool rises(const gw_chance_span *span, uint32_t n, int64_t now)
{
    for (uint32_t i = 0; i < n; i++)
        if (span[i].from < (i ? span[i - 1].to : now - INT64_C(3200000000)) || span[i].to <= span[i].from)
            return false;
    return true;
}

static bool makes_sense(const gw_chance_record *r)
{
    const gw_chance_memory *m = &r->memory;
    if (m->now == INT64_MIN)
        return !m->n_triggers && !m->n_fit && !m->n_spells;
    bool well = m->now >= 0 && m->now < INT64_C(1) << 53 && isfinite(m->floor) && r->rules.hop_s > 0 &&
                r->rules.hop_frames > 0 && rises(m->fit, m->n_fit, m->now) &&
                rises(m->withdrawn, m->n_withdrawn, m->now) && m->n_spells > 0 && m->spell[0].new_ring &&
                (!m->n_fit || m->fit[m->n_fit - 1].to <= m->now + 1);
    for (uint32_t i = 1; i < m->n_spells; i++)
        well &= m->spell[i].from > m->spell[i - 1].from;
    for (uint32_t i = 0; i < r->n_slides; i++)
        well &= abs(r->offset_hops[i]) < 100000000;
    for (uint32_t i = 0; i < m->n_triggers; i++)
        well &= isfinite(m->trigger[i].statistic) && m->trigger[i].hop[0] <= m->now &&
                m->trigger[i].hop[1] <= m->now;
    return well;
}

/* -- writing and reading ----------------------------------------------------------------------------- */

static bool write_open(const gw_chance_record *r, hid_t file, const table t[TABLES])
{
    const uint32_t crc = checksum(t);
    bool well = gw_attribute_put_text(file, "format", format) &&
                gw_attribute_put_text(file, "name", r->name) &&
                gw_attribute_put_text(file, "model", r->rules.model) &&
                gw_attribute_put_text(file, "detectors", r->rules.detectors) &&
                gw_attribute_put(file, "crc32c", H5T_NATIVE_UINT32, &crc) NUMBERS(PUT_NUMBER, r);
    for (int i = 0; well && i < TABLES; i++)
        well = write_table(file, &t[i]);
    return well;
}

int gw_chance_file_write(const gw_chance_record *r, const char *path)
{
    table t[TABLES];
    if (!to_tables(r, t)) {
        free_tables(t);
        return gw_fail(GW_ENOMEM, "%s: %u triggers", path, r->memory.n_triggers);
    }
    int err = GW_OK;
    gw_hdf5_lock();
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (file < 0 || !write_open(r, file, t))
        err = gw_fail(GW_EIO, "%s: %s", path, gw_hdf5_reason());
    if (file >= 0 && H5Fclose(file) < 0 && err == GW_OK)
        err = gw_fail(GW_EIO, "%s: %s", path, gw_hdf5_reason());
    gw_hdf5_unlock();
    free_tables(t);
    return err;
}

/* The reason why not, or NULL. */
static const char *read_open(gw_chance_record *r, hid_t file)
{
    char is[sizeof format + 8];
    uint32_t crc;
    if (!gw_attribute_get_text(file, "format", is, sizeof is) || strcmp(is, format) != 0)
        return "is no background of this version";
    if (!gw_attribute_get_text(file, "name", r->name, sizeof r->name) ||
        !gw_attribute_get_text(file, "model", r->rules.model, sizeof r->rules.model) ||
        !gw_attribute_get_text(file, "detectors", r->rules.detectors, sizeof r->rules.detectors) ||
        !gw_attribute_get(file, "crc32c", H5T_NATIVE_UINT32, &crc) || !(true NUMBERS(GET_NUMBER, r)))
        return "lacks an attribute";
    table t[TABLES];
    name_tables(t);
    const char *why = NULL;
    for (int i = 0; i < TABLES && !why; i++)
        if (!read_table(file, &t[i]))
            why = "is of other shapes, or damaged";
    if (!why && (t[STATISTICS].rows != t[HOPS].rows || checksum(t) != crc))
        why = "is damaged";
    if (!why && !from_tables(r, t))
        why = "is more than the memory holds";
    if (!why && !makes_sense(r))
        why = "holds numbers that are no background";
    free_tables(t);
    return why;
}

int gw_chance_file_read(gw_chance_record *r, const char *path)
{
    *r = (gw_chance_record){.memory.now = INT64_MIN};
    if (access(path, R_OK) != 0)
        return gw_fail(errno == ENOENT || errno == ENOTDIR ? GW_EMISSING : GW_EACCESS, "%s: %s", path,
                       strerror(errno));
    int err = GW_OK;
    gw_hdf5_lock();
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    const char *why = file < 0 ? gw_hdf5_reason() : read_open(r, file);
    if (why)
        err = gw_fail(GW_EFORMAT, "%s%s %s", path, file < 0 ? ":" : "", why);
    if (file >= 0)
        H5Fclose(file);
    gw_hdf5_unlock();
    if (err != GW_OK)
        gw_chance_record_free(r);
    return err;
}

void gw_chance_record_free(gw_chance_record *r)
{
    free(r->offset_hops);
    gw_chance_memory_free(&r->memory);
    *r = (gw_chance_record){.memory.now = INT64_MIN};
}

/* -- fitting together -------------------------------------------------------------------------------- */

int gw_chance_record_match(const gw_chance_record *r, const char *path, const gw_chance_rules *rules)
{
    const gw_chance_rules *is = &r->rules;
    if (strcmp(is->model, rules->model) != 0)
        return gw_fail(GW_EMISMATCH, "%s is of another model (SHA-256 %.12s..., here %.12s...)", path,
                       is->model, rules->model);
    if (strcmp(is->detectors, rules->detectors) != 0)
        return gw_fail(GW_EMISMATCH, "%s is of detectors %s, here %s", path, is->detectors, rules->detectors);
    if (is->cluster_frames != rules->cluster_frames)
        return gw_fail(GW_EMISMATCH, "%s has a refractory time of %u frames, here %u", path,
                       is->cluster_frames, rules->cluster_frames);
    if (is->hop_s < rules->hop_s || is->hop_s > rules->hop_s || is->hop_frames != rules->hop_frames ||
        is->need_hops != rules->need_hops)
        return gw_fail(GW_EMISMATCH, "%s has hops of %g s and %u frames, here %g s and %u", path, is->hop_s,
                       is->hop_frames, rules->hop_s, rules->hop_frames);
    return GW_OK;
}

gw_chance_span gw_chance_record_span(const gw_chance_record *r)
{
    const gw_chance_memory *m = &r->memory;
    return m->n_fit ? (gw_chance_span){m->fit[0].from, m->fit[m->n_fit - 1].to} : (gw_chance_span){0, 0};
}

int gw_chance_of(gw_chance **out, const gw_chance_record *r)
{
    *out = NULL;
    const gw_chance_span span = gw_chance_record_span(r);
    const gw_chance_conf conf = {.n_slides = r->n_slides,
                                 .offset_hops = r->offset_hops,
                                 .hop_frames = r->rules.hop_frames,
                                 .cluster_frames = r->rules.cluster_frames,
                                 .need_hops = r->rules.need_hops,
                                 .memory_hops = span.to > 0 ? (uint32_t)(r->memory.now - span.from + 1) : 1,
                                 .hop_s = r->rules.hop_s,
                                 .floor = r->memory.floor,
                                 .max_triggers = r->memory.n_triggers + 1};
    GW_TRY(gw_chance_new(out, &conf));
    const int err = gw_chance_load(*out, &r->memory);
    if (err < 0)
        gw_chance_destroy(out);
    else
        gw_chance_count(*out);
    return err;
}

/* `more` behind *data, which grows. */
static bool append(void **data, uint32_t *n, const void *more, uint32_t n_more, size_t bytes)
{
    void *all = realloc(*data, ((size_t)*n + n_more + 1) * bytes);
    if (!all)
        return false;
    *data = all;
    if (n_more)
        memcpy((char *)all + *n * bytes, more, n_more * bytes);
    *n += n_more;
    return true;
}

static bool append_memory(gw_chance_memory *m, const gw_chance_memory *more)
{
    const bool well =
        append((void **)&m->trigger, &m->n_triggers, more->trigger, more->n_triggers, sizeof *m->trigger) &&
        append((void **)&m->fit, &m->n_fit, more->fit, more->n_fit, sizeof *m->fit) &&
        append((void **)&m->withdrawn, &m->n_withdrawn, more->withdrawn, more->n_withdrawn,
               sizeof *m->withdrawn) &&
        append((void **)&m->spell, &m->n_spells, more->spell, more->n_spells, sizeof *m->spell);
    m->max_triggers = m->n_triggers;
    m->max_fit = m->n_fit;
    m->max_withdrawn = m->n_withdrawn;
    m->max_spells = m->n_spells;
    m->now = more->now;
    m->floor = fmax(m->floor, more->floor);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_triggers; i++)
        if ((double)m->trigger[i].statistic >= m->floor)
            m->trigger[n++] = m->trigger[i];
    m->n_triggers = n;
    return well;
}

int gw_chance_record_add(gw_chance_record *r, const char *path, const gw_chance_record *more,
                         const char *more_path)
{
    GW_TRY(gw_chance_record_match(more, more_path, &r->rules));
    if (more->n_slides != r->n_slides ||
        memcmp(more->offset_hops, r->offset_hops, r->n_slides * sizeof *r->offset_hops) != 0)
        return gw_fail(GW_EMISMATCH, "%s has %u slides, %s has %u, or others: they do not add up", more_path,
                       more->n_slides, path, r->n_slides);
    const gw_chance_span a = gw_chance_record_span(r), b = gw_chance_record_span(more);
    if (a.from < b.to && b.from < a.to)
        return gw_fail(GW_EMISMATCH,
                       "%s (GPS %.0f to %.0f) and %s (GPS %.0f to %.0f) share time, which would count twice",
                       path, (double)a.from * r->rules.hop_s, (double)a.to * r->rules.hop_s, more_path,
                       (double)b.from * r->rules.hop_s, (double)b.to * r->rules.hop_s);
    gw_chance_memory first = {.now = INT64_MIN, .floor = -INFINITY};
    const bool behind = a.from <= b.from;
    bool well = append_memory(&first, behind ? &r->memory : &more->memory) &&
                append_memory(&first, behind ? &more->memory : &r->memory);
    gw_chance_memory_free(well ? &r->memory : &first);
    if (!well)
        return gw_fail(GW_ENOMEM, "%s and %s together", path, more_path);
    r->memory = first;
    gw_chance *c;
    GW_TRY(gw_chance_of(&c, r));
    for (int exclusive = 0; exclusive < 2; exclusive++)
        r->slid_s[exclusive] = gw_chance_slid_s(c, exclusive);
    r->distinct_s = gw_chance_distinct_s(c);
    gw_chance_destroy(&c);
    return GW_OK;
}
