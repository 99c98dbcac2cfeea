/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs a fuzz target over every file of the folders named on the command line, so that a corpus is an
 * ordinary test with any compiler. Exit status 0, 1 when a folder cannot be read, 77 when there was
 * nothing to run. A target that finds a fault aborts by itself. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1 if it was run, 0 if it is not a plain file, -1 on failure. */
static int run_file(const char *path)
{
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode))
        return 0;
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly so long: an overrun is seen */
    FILE *in = fopen(path, "rb");
    bool read = data && in && fread(data, 1, size, in) == size;
    if (in)
        fclose(in);
    if (read) {
        fprintf(stderr, "%s\n", path); /* the last line before an abort names the culprit */
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    return read ? 1 : -1;
}

int main(int argc, char **argv)
{
    int ran = 0;
    for (int i = 1; i < argc; i++) {
        struct dirent **entry = NULL;
        int n = scandir(argv[i], &entry, NULL, alphasort);
        bool failed = n < 0;
        for (int k = 0; k < n; k++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry[k]->d_name);
            int done = failed ? 0 : run_file(path);
            failed |= done < 0;
            ran += done > 0;
            free(entry[k]);
        }
        free(entry);
        if (failed) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 1;
        }
    }
    printf("%d inputs\n", ran);
    return ran ? 0 : 77;
}
