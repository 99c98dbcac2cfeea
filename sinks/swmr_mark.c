/* SPDX-License-Identifier: GPL-3.0-or-later
 * HDF5's mark "being written". Called by hdf5_out.c.
 *
 * In SWMR mode the library orders its writes so that the file is whole at every moment, which is what a
 * recorder wants that may be killed. But it also marks the file, and the mark of a killed writer makes every
 * reader refuse the file until h5clear was run over it. The library looks at the mark only when it opens a
 * file, so its writer does not miss it.
 *
 * Superblock version 3 (HDF5 File Format Specification 3.0, II.A): signature of 8 bytes, version, sizes of
 * offsets and lengths, flags, four offsets, and a Jenkins lookup3 checksum of all before it. */
#include "sinks/swmr_mark.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

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

int gw_swmr_unmark(int fd)
{
    unsigned char s[SUPERBLOCK_BYTES];
    if (pread(fd, s, sizeof s, 0) != (ssize_t)sizeof s)
        return -1;
    if (memcmp(s, "\211HDF\r\n\032\n", 8) != 0 || s[VERSION_AT] != 3 || s[OFFSET_BYTES_AT] != 8 ||
        s[FLAGS_AT] == 0 || checksum(s) != word(s + CHECKSUM_AT))
        return 0;
    s[FLAGS_AT] = 0;
    const uint32_t sum = checksum(s);
    for (int i = 0; i < 4; i++)
        s[CHECKSUM_AT + i] = (unsigned char)(sum >> 8 * i);
    return pwrite(fd, s, sizeof s, 0) == (ssize_t)sizeof s ? 0 : -1;
}
