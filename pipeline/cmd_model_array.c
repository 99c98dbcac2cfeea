/* SPDX-License-Identifier: GPL-3.0-or-later
 * Arrays in files, for `gwstream model run`: NumPy's .npy (versions 1 to 3; strict: what is not said
 * exactly as NumPy says it is refused) and datasets of HDF5 files. Whole arrays only; nothing is mapped. */
#include "pipeline/cmd_model.h"
#include "pipeline/hdf5_lock.h"

#include <errno.h>
#include <hdf5.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NPY_HEADER_BYTES = 4096 };

static const struct {
    gw_onnx_type type;
    const char *text, *npy;
} kind[] = {
    {GW_ONNX_FLOAT, "float32", "<f4"}, {GW_ONNX_DOUBLE, "float64", "<f8"}, {GW_ONNX_INT32, "int32", "<i4"},
    {GW_ONNX_INT64, "int64", "<i8"},   {GW_ONNX_INT8, "int8", "|i1"},      {GW_ONNX_UINT8, "uint8", "|u1"},
    {GW_ONNX_BOOL, "bool", "|b1"},
};

enum { KINDS = sizeof kind / sizeof kind[0] };

const char *gw_array_type_text(gw_onnx_type type)
{
    for (int i = 0; i < KINDS; i++)
        if (kind[i].type == type)
            return kind[i].text;
    return type == GW_ONNX_FLOAT16 ? "float16" : type == GW_ONNX_BFLOAT16 ? "bfloat16" : "unknown type";
}

const char *gw_array_shape_text(int rank, const int64_t *dim, char *text, size_t n)
{
    size_t at = (size_t)snprintf(text, n, "[");
    for (int i = 0; i < rank && at < n; i++)
        at += (size_t)snprintf(text + at, n - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (at < n)
        snprintf(text + at, n - at, "]");
    return text;
}

/* Bytes of the samples, once type and dimensions are set. */
static int measure(gw_tensor *t, const char *where, size_t *bytes)
{
    const int err = gw_tensor_set(t, t->type, t->rank, t->dim);
    *bytes = err < 0 ? 0 : gw_tensor_elements(t) * gw_tensor_type_bytes(t->type);
    return err < 0 ? gw_fail_at(err, "%s", where) : GW_OK;
}

static int take(gw_tensor *t, const char *where, size_t bytes)
{
    t->data = malloc(bytes ? bytes : 1);
    return t->data ? GW_OK : gw_fail(GW_ENOMEM, "%s: no memory for %zu bytes", where, bytes);
}

static int refused(const char *where, const char *what)
{
    const int err = errno == ENOENT || errno == ENOTDIR ? GW_EMISSING : errno == EACCES ? GW_EACCESS : GW_EIO;
    return gw_fail(err, "%s: %s: %s", where, what, strerror(errno));
}

/* ---- .npy ---- */

/* The text behind 'key': in a header, or NULL. */
static const char *npy_value(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    return at + strspn(at, " ");
}

static int npy_shape(gw_tensor *t, const char *at, const char *path)
{
    if (*at++ != '(')
        return gw_fail(GW_EFORMAT, "%s: the .npy header has no 'shape': (...)", path);
    for (at += strspn(at, " "); *at != ')'; at += strspn(at, " ")) {
        char *end;
        errno = 0;
        const long long n = *at >= '0' && *at <= '9' ? strtoll(at, &end, 10) : -1;
        if (n < 0 || errno)
            return gw_fail(GW_EFORMAT, "%s: the 'shape' of the .npy header makes no sense", path);
        if (t->rank == GW_ONNX_MAX_RANK)
            return gw_fail(GW_ERANGE, "%s: more than %d dimensions", path, GW_ONNX_MAX_RANK);
        t->dim[t->rank++] = n;
        at = end + strspn(end, " ");
        if (*at == ',')
            at++;
        else if (*at != ')')
            return gw_fail(GW_EFORMAT, "%s: the 'shape' of the .npy header makes no sense", path);
    }
    return GW_OK;
}

static int npy_header(gw_tensor *t, FILE *f, const char *path)
{
    unsigned char head[12];
    char header[NPY_HEADER_BYTES + 1];
    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return gw_fail(GW_EFORMAT, "%s: no .npy file (write one with numpy.save)", path);
    const bool longer = head[6] > 1; /* versions 2 and 3 have four bytes of length */
    if (head[6] < 1 || head[6] > 3 || (longer && fread(head + 10, 1, 2, f) != 2))
        return gw_fail(GW_EFORMAT, "%s: .npy version %d is not known", path, head[6]);
    size_t n = (size_t)head[8] | (size_t)head[9] << 8;
    if (longer)
        n |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (n > NPY_HEADER_BYTES || fread(header, 1, n, f) != n)
        return gw_fail(GW_EFORMAT, "%s: the .npy header is cut short or longer than %d bytes", path,
                       NPY_HEADER_BYTES);
    header[n] = '\0';
    const char *descr = npy_value(header, "descr"), *order = npy_value(header, "fortran_order"),
               *shape = npy_value(header, "shape");
    if (!descr || !order || !shape)
        return gw_fail(GW_EFORMAT, "%s: the .npy header lacks 'descr', 'fortran_order' or 'shape'", path);
    if (strncmp(order, "False", 5) != 0)
        return gw_fail(GW_ENOTSUP, "%s: column-major; save numpy.ascontiguousarray(x)", path);
    int i = 0;
    while (i < KINDS && (*descr != '\'' || strncmp(descr + 1, kind[i].npy, 3) != 0 || descr[4] != '\''))
        i++;
    if (i == KINDS)
        return gw_fail(GW_ENOTSUP, "%s: element type %.8s; save float32 (x.astype('<f4'))", path, descr);
    t->type = kind[i].type;
    return npy_shape(t, shape, path);
}

static int npy_read(gw_tensor *t, FILE *f, const char *path)
{
    struct stat s;
    if (fstat(fileno(f), &s) != 0 || !S_ISREG(s.st_mode))
        return gw_fail(GW_EFORMAT, "%s: no regular file", path);
    GW_TRY(npy_header(t, f, path));
    const long start = ftell(f);
    size_t bytes;
    GW_TRY(measure(t, path, &bytes));
    if (start < 0 || (size_t)s.st_size - (size_t)start != bytes) {
        char text[200];
        return gw_fail(GW_EFORMAT, "%s: %zu bytes of samples, but %s %s are %zu", path,
                       (size_t)s.st_size - (size_t)start, gw_array_type_text(t->type),
                       gw_array_shape_text(t->rank, t->dim, text, sizeof text), bytes);
    }
    GW_TRY(take(t, path, bytes));
    return fread(t->data, 1, bytes, f) == bytes ? GW_OK : refused(path, "cannot read");
}

static int npy_write(const gw_tensor *t, FILE *f, const char *path)
{
    char header[512], shape[256] = "";
    size_t at = 0;
    for (int i = 0; i < t->rank; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%lld,%s", (long long)t->dim[i],
                               i + 1 < t->rank ? " " : "");
    if (t->rank > 1) /* (2, 3), but (2,) */
        shape[at - 1] = '\0';
    int i = 0;
    while (i < KINDS && kind[i].type != t->type)
        i++;
    if (i == KINDS)
        return gw_fail(GW_ENOTSUP, "%s: no .npy for elements of %s", path, gw_array_type_text(t->type));
    /* The samples begin at a multiple of 64 bytes; the header is filled up with spaces and ends a line. */
    int n = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                     kind[i].npy, shape);
    while ((n + 1 + 10) % 64)
        header[n++] = ' ';
    header[n++] = '\n';
    const unsigned char head[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)n, (unsigned char)(n >> 8)};
    const size_t bytes = gw_tensor_elements(t) * gw_tensor_type_bytes(t->type);
    if (fwrite(head, 1, 10, f) != 10 || fwrite(header, 1, (size_t)n, f) != (size_t)n ||
        fwrite(t->data, 1, bytes, f) != bytes || fflush(f) != 0)
        return refused(path, "cannot write");
    return GW_OK;
}

/* ---- HDF5 ---- */

static hid_t hdf5_type(gw_onnx_type type)
{
    switch (type) {
    case GW_ONNX_FLOAT:
        return H5T_NATIVE_FLOAT;
    case GW_ONNX_DOUBLE:
        return H5T_NATIVE_DOUBLE;
    case GW_ONNX_INT32:
        return H5T_NATIVE_INT32;
    case GW_ONNX_INT64:
        return H5T_NATIVE_INT64;
    case GW_ONNX_INT8:
        return H5T_NATIVE_INT8;
    default:
        return H5T_NATIVE_UINT8; /* a bool as 0 and 1 */
    }
}

/* What a dataset's elements become here; 0: nothing. */
static gw_onnx_type onnx_type(hid_t set)
{
    const hid_t type = H5Dget_type(set);
    const H5T_class_t class = H5Tget_class(type);
    const size_t bytes = H5Tget_size(type);
    const bool is_signed = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;
    H5Tclose(type);
    if (class == H5T_FLOAT)
        return bytes <= 4 ? GW_ONNX_FLOAT : GW_ONNX_DOUBLE;
    if (class == H5T_INTEGER && bytes == 1)
        return is_signed ? GW_ONNX_INT8 : GW_ONNX_UINT8;
    if (class == H5T_INTEGER && is_signed)
        return bytes <= 4 ? GW_ONNX_INT32 : GW_ONNX_INT64;
    return (gw_onnx_type)0;
}

static int hdf5_read_set(gw_tensor *t, hid_t set, const char *where)
{
    hsize_t dim[H5S_MAX_RANK];
    const hid_t space = H5Dget_space(set);
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank >= 0)
        H5Sget_simple_extent_dims(space, dim, NULL);
    H5Sclose(space);
    if (rank < 0 || rank > GW_ONNX_MAX_RANK)
        return gw_fail(GW_ENOTSUP, "%s: not an array of at most %d dimensions", where, GW_ONNX_MAX_RANK);
    t->rank = rank;
    for (int i = 0; i < rank; i++)
        t->dim[i] = dim[i] > INT64_MAX ? -1 : (int64_t)dim[i];
    t->type = onnx_type(set);
    if (!t->type)
        return gw_fail(GW_ENOTSUP, "%s: elements are neither floats nor signed integers", where);
    size_t bytes;
    GW_TRY(measure(t, where, &bytes));
    GW_TRY(take(t, where, bytes));
    return H5Dread(set, hdf5_type(t->type), H5S_ALL, H5S_ALL, H5P_DEFAULT, t->data) < 0
               ? gw_fail(GW_EIO, "%s: cannot read: %s", where, gw_hdf5_reason())
               : GW_OK;
}

static int hdf5_read(gw_tensor *t, const char *path, const char *name)
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        return gw_fail(GW_EFORMAT, "%s: no HDF5 file that can be read: %s", path, gw_hdf5_reason());
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    const int err =
        set < 0 ? gw_fail(GW_EMISSING, "%s: no dataset %s", path, name) : hdf5_read_set(t, set, path);
    if (set >= 0)
        H5Dclose(set);
    H5Fclose(file);
    return err;
}

static int hdf5_write(const gw_tensor *t, const char *path, const char *name)
{
    struct stat s;
    const bool there = stat(path, &s) == 0;
    const hid_t file = there ? H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT)
                             : H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
    if (file < 0)
        return gw_fail(GW_EACCESS, "%s: cannot be %s as an HDF5 file: %s", path, there ? "opened" : "made",
                       gw_hdf5_reason());
    hsize_t dim[GW_ONNX_MAX_RANK];
    for (int i = 0; i < t->rank; i++)
        dim[i] = (hsize_t)t->dim[i];
    const hid_t space = H5Screate_simple(t->rank, dim, NULL), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    const hid_t set = H5Dcreate2(file, name, hdf5_type(t->type), space, links, H5P_DEFAULT, H5P_DEFAULT);
    int err = GW_OK;
    if (set < 0)
        err = gw_fail(GW_EACCESS, "%s: cannot make dataset %s: %s", path, name, gw_hdf5_reason());
    else if (H5Dwrite(set, hdf5_type(t->type), H5S_ALL, H5S_ALL, H5P_DEFAULT, t->data) < 0)
        err = gw_fail(GW_EIO, "%s: cannot write dataset %s: %s", path, name, gw_hdf5_reason());
    if (set >= 0)
        H5Dclose(set);
    H5Pclose(links);
    H5Sclose(space);
    if (H5Fclose(file) < 0 && err == GW_OK)
        err = gw_fail(GW_EIO, "%s: cannot write: %s", path, gw_hdf5_reason());
    return err;
}

/* ---- either ---- */

static bool is_npy(const char *where)
{
    const size_t n = strlen(where);
    return n > 4 && strcmp(where + n - 4, ".npy") == 0;
}

/* "file.h5:/set" -> path and the name behind it. */
static int split(const char *where, char *path, size_t n, const char **name)
{
    const char *colon = strstr(where, ":/");
    if (!colon || colon == where || !colon[2])
        return gw_fail(GW_EUSAGE, "'%s' is neither FILE.npy nor FILE.h5:/DATASET", where);
    if ((size_t)(colon - where) >= n)
        return gw_fail(GW_ERANGE, "'%.60s...': the name is too long", where);
    memcpy(path, where, (size_t)(colon - where));
    path[colon - where] = '\0';
    *name = colon + 1;
    return GW_OK;
}

int gw_array_read(gw_tensor *t, const char *where)
{
    *t = (gw_tensor){0};
    int err;
    if (is_npy(where)) {
        FILE *f = fopen(where, "rb");
        if (!f)
            return refused(where, "cannot be opened");
        err = npy_read(t, f, where);
        fclose(f);
    } else {
        char path[PATH_MAX];
        const char *name = "";
        GW_TRY(split(where, path, sizeof path, &name));
        struct stat s;
        if (stat(path, &s) != 0)
            return refused(path, "cannot be opened");
        gw_hdf5_lock();
        err = hdf5_read(t, path, name);
        gw_hdf5_unlock();
    }
    if (err < 0) {
        free(t->data);
        t->data = NULL;
    }
    return err;
}

int gw_array_write(const gw_tensor *t, const char *where)
{
    if (is_npy(where)) {
        FILE *f = fopen(where, "wb");
        if (!f)
            return refused(where, "cannot be written");
        int err = npy_write(t, f, where);
        if (fclose(f) != 0 && err == GW_OK)
            err = refused(where, "cannot write");
        return err;
    }
    char path[PATH_MAX];
    const char *name = "";
    GW_TRY(split(where, path, sizeof path, &name));
    gw_hdf5_lock();
    const int err = hdf5_write(t, path, name);
    gw_hdf5_unlock();
    return err;
}
