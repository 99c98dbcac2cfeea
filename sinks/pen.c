/* SPDX-License-Identifier: GPL-3.0-or-later
 * Colours, type and ticks; see the header. */
#include "sinks/pen.h"

#include <math.h>
#include <stddef.h>

/* Control points of the scale, in sRGB, at even steps. */
static const gw_rgb scale[] = {{0.031, 0.047, 0.149}, {0.098, 0.110, 0.345}, {0.118, 0.235, 0.510},
                               {0.086, 0.384, 0.569}, {0.090, 0.529, 0.545}, {0.270, 0.675, 0.447},
                               {0.580, 0.796, 0.318}, {0.894, 0.878, 0.380}, {1.000, 0.976, 0.780}};

gw_rgb gw_pen_scale(double v)
{
    const int last = (int)(sizeof scale / sizeof *scale) - 1;
    double u = (v < 0 ? 0 : v > 1 ? 1 : v) * last;
    int i = u < last ? (int)u : last - 1;
    double f = u - i;
    return (gw_rgb){scale[i].r + f * (scale[i + 1].r - scale[i].r),
                    scale[i].g + f * (scale[i + 1].g - scale[i].g),
                    scale[i].b + f * (scale[i + 1].b - scale[i].b)};
}

void gw_pen_set(cairo_t *c, gw_rgb k, double alpha)
{
    cairo_set_source_rgba(c, k.r, k.g, k.b, alpha);
}

double gw_pen_width(cairo_t *c, double size, bool bold, const char *text)
{
    cairo_text_extents_t e;
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, size);
    cairo_text_extents(c, text, &e);
    return e.x_advance;
}

double gw_pen_type(cairo_t *c, double x, double y, double size, bool bold, gw_rgb k, gw_anchor a,
                   const char *text)
{
    const double wide = gw_pen_width(c, size, bold, text);
    cairo_move_to(c, a == GW_AT_LEFT ? x : a == GW_AT_RIGHT ? x - wide : x - wide / 2, y);
    gw_pen_set(c, k, 1);
    cairo_show_text(c, text);
    return wide;
}

void gw_pen_type_upwards(cairo_t *c, double x, double y, double size, gw_rgb k, const char *text)
{
    cairo_save(c);
    cairo_translate(c, x, y);
    cairo_rotate(c, -M_PI / 2);
    gw_pen_type(c, 0, 0, size, false, k, GW_AT_CENTRE, text);
    cairo_restore(c);
}

double gw_pen_step(double span, int most)
{
    double step = pow(10, floor(log10(span / most)));
    static const double times[] = {1, 2, 5, 10};
    size_t i = 0;
    while (i < 3 && span / (step * times[i]) > most)
        i++;
    return step * times[i];
}
