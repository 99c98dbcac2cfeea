/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream keygen`: a pair of CURVE keys for one end of encrypted links. The work is keys.c's. */
#include "pipeline/cmd.h"
#include "pipeline/keys.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "usage: gwstream keygen NAME\n\n"
    "Makes a pair of CURVE keys: NAME.key, which the other end gets, and NAME.key_secret, which nobody gets\n"
    "(mode 600). Both are ZeroMQ certificates as CZMQ and pyzmq read and write them. Nothing is ever\n"
    "overwritten. A listener names its own with 'key: NAME' and those who may come with 'allow: [A.key, "
    "...]'.\n";

int gw_cmd_keygen(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return GW_OK;
    }
    if (argc != 2 || argv[1][0] == '-')
        return gw_fail(GW_EUSAGE, "wants one NAME (gwstream keygen --help)");
    GW_TRY(gw_keys_generate(argv[1]));
    char text[GW_KEY_TEXT];
    GW_TRY(gw_keys_load_public(text, argv[1]));
    printf("%s.key         give this to the other end; public key %s\n%s.key_secret  keep this\n", argv[1],
           text, argv[1]);
    return GW_OK;
}
