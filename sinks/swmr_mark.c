/* SPDX-License-Identifier: GPL-3.0-or-later
 * HDF5's mark "being written", kept off the disk. Called by out_file.c.
 *
 * In SWMR mode the library orders its writes so that the file is whole at every moment, which is what a
 * recorder wants that may be killed. But it also marks the file, and the mark of a killed writer makes every
 * reader refuse the file until h5clear was run over it. The library looks at the mark only when it opens a
 * file, so its writer does not miss it. Taking it off after each flush would leave a moment for a kill to
 * fall into; so the library writes through a driver of ours, its own for plain files but for one thing: a
 * superblock goes to the disk without its mark.
 *
 * Superblock version 3 (HDF5 File Format Specification 3.0, II.A): signature of 8 bytes, version, sizes of
 * offsets and lengths, flags, four offsets, and a Jenkins lookup3 checksum of all before it. */
#include "sinks/swmr_mark.h"

#include <stdint.h>
#include <string.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

enum { SUPERBLOCK_BYTES = 48, VERSION_AT = 8, OFFSET_BYTES_AT = 9, FLAGS_AT = 11, CHECKSUM_AT = 44 };

static uint32_t rotate(uint32_t x, int k)
{
    return x << k | x >> (32 - k);
}

static uint32_t word(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Jenkins' hashlittle() of the 44 bytes: three rounds of twelve and a last one of eight. */
static uint32_t checksum(const unsigned char *p)
{
    uint32_t a = 0xdeadbeef + CHECKSUM_AT, b = a, c = a;
    for (int left = CHECKSUM_AT; left > 12; left -= 12, p += 12) {
        a += word(p), b += word(p + 4), c += word(p + 8);
        a -= c, a ^= rotate(c, 4), c += b;
        b -= a, b ^= rotate(a, 6), a += c;
        c -= b, c ^= rotate(b, 8), b += a;
        a -= c, a ^= rotate(c, 16), c += b;
        b -= a, b ^= rotate(a, 19), a += c;
        c -= b, c ^= rotate(b, 4), b += a;
    }
    a += word(p), b += word(p + 4);
    c ^= b, c -= rotate(b, 14);
    a ^= c, a -= rotate(c, 11);
    b ^= a, b -= rotate(a, 25);
    c ^= b, c -= rotate(b, 16);
    a ^= c, a -= rotate(c, 4);
    b ^= a, b -= rotate(a, 14);
    c ^= b, c -= rotate(b, 24);
    return c;
}

/* Whether these bytes begin with a marked superblock; then `s` is it without its mark. */
static bool unmark(const void *data, size_t bytes, unsigned char s[SUPERBLOCK_BYTES])
{
    if (bytes < SUPERBLOCK_BYTES)
        return false;
    memcpy(s, data, SUPERBLOCK_BYTES);
    if (memcmp(s, "\211HDF\r\n\032\n", 8) != 0 || s[VERSION_AT] != 3 || s[OFFSET_BYTES_AT] != 8 ||
        s[FLAGS_AT] == 0 || checksum(s) != word(s + CHECKSUM_AT))
        return false;
    s[FLAGS_AT] = 0;
    const uint32_t sum = checksum(s);
    for (int i = 0; i < 4; i++)
        s[CHECKSUM_AT + i] = (unsigned char)(sum >> 8 * i);
    return true;
}

static const H5FD_class_t *plain; /* the library's own driver */

static herr_t write_unmarked(H5FD_t *file, H5FD_mem_t type, hid_t list, haddr_t at, size_t bytes,
                             const void *data)
{
    unsigned char s[SUPERBLOCK_BYTES];
    if (at != 0 || !unmark(data, bytes, s))
        return plain->write(file, type, list, at, bytes, data);
    if (bytes > sizeof s &&
        plain->write(file, type, list, sizeof s, bytes - sizeof s, (const char *)data + sizeof s) < 0)
        return -1;
    return plain->write(file, type, list, 0, sizeof s, s);
}

/* The library shows a driver's functions only in an open file. */
static void find_plain(void)
{
    const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    H5FD_t *file = NULL;
    if (list >= 0 && H5Pset_fapl_sec2(list) >= 0)
        file = H5FDopen("/", H5F_ACC_RDONLY, list, HADDR_UNDEF);
    if (file) {
        plain = file->cls;
        H5FDclose(file);
    }
    if (list >= 0)
        H5Pclose(list);
}

int gw_swmr_driver(hid_t list)
{
    static hid_t driver = H5I_INVALID_HID;
    if (!plain)
        find_plain();
    if (driver < 0 && plain) {
        H5FD_class_t ours = *plain;
        ours.name = "gwstream";
        ours.write = write_unmarked;
        driver = H5FDregister(&ours);
    }
    return driver < 0 || H5Pset_driver(list, driver, NULL) < 0 ? -1 : 0;
}
