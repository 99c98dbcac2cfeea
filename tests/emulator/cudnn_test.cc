/* SPDX-License-Identifier: GPL-3.0-or-later
 * Layers through cuDNN without a GPU and without cuDNN: fake_cudnn.c stands for the library, the emulator for
 * the device. Results against kernels/ref; which engine is chosen; what is kept on disk, and what becomes of
 * a damaged file; libraries that will not do. The fake is $GWSTREAM_CUDNN, its bad brothers are arguments.
 * Prints a line a check; exit 0 or 1. */
#include "cuda_fp16.h"
#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/cudnn_device.h"
}

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <dirent.h>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

static int wrong;

static void check(bool good, const char *what)
{
    printf("%s: %s%s%s\n", good ? "ok" : "WRONG", what, good ? "" : ": ", good ? "" : gw_err_detail());
    wrong += !good;
}

static int n_remarks;
static std::string remark;

static void take_remark(const char *line)
{
    n_remarks++;
    remark = line;
}

/* ---- Results ---- */

static std::mt19937 twister(7);

static std::vector<float> noise(size_t n)
{
    std::normal_distribution<float> normal;
    std::vector<float> v(n);
    for (float &x : v)
        x = normal(twister);
    return v;
}

/* On the device, as floats or halves. */
struct array {
    void *p = nullptr;
    size_t n;
    bool half;
    array(const std::vector<float> &v, bool half_) : n(v.size()), half(half_)
    {
        std::vector<__half> h(n);
        for (size_t i = 0; i < n; i++)
            h[i] = __float2half_rn(v[i]);
        cudaMalloc(&p, n * 4 + 4);
        cudaMemcpy(p, half ? static_cast<const void *>(h.data()) : v.data(), n * (half ? 2 : 4),
                   cudaMemcpyHostToDevice);
    }
    array(const array &) = delete;
    ~array()
    {
        cudaFree(p);
    }
    std::vector<float> get() const
    {
        std::vector<float> v(n);
        std::vector<__half> h(n);
        cudaMemcpy(half ? static_cast<void *>(h.data()) : v.data(), p, n * (half ? 2 : 4),
                   cudaMemcpyDeviceToHost);
        for (size_t i = 0; half && i < n; i++)
            v[i] = __half2float(h[i]);
        return v;
    }
};

struct setting {
    gw_cudnn_precision precision;
    bool half;
    int residual; /* 0 none, 1 another array, 2 dst itself */
    bool bias, overlap;
};

/* The largest difference from ref, as a part of the largest value; negative when something failed. */
static double compare(gw_cudnn *c, gw_conv_desc d, uint32_t batch, uint32_t columns, setting s)
{
    const size_t reads = gw_conv_in_columns(&d, columns) * d.in_channels,
                 writes = size_t(columns) * d.out_channels;
    gw_cudnn_layer l = {};
    l.d = d;
    l.batch = batch;
    l.columns = columns;
    l.src_step = s.overlap ? d.in_channels * d.stride : reads + 8;
    l.dst_step = writes + 12;
    l.residual_step = s.residual == 2 ? l.dst_step : writes + 4;
    l.residual = s.residual > 0;
    l.in_place = s.residual == 2;
    l.half = s.half;
    l.src_align = l.dst_align = s.half ? 2 : 4;
    l.precision = s.precision;
    const std::vector<float> weight = noise(size_t(d.out_channels) * (d.in_channels / d.groups) * d.kernel),
                             bias = noise(d.out_channels), src = noise((batch - 1) * l.src_step + reads),
                             residual = noise((batch - 1) * l.residual_step + writes);
    std::vector<float> truth = s.residual == 2 ? residual : noise((batch - 1) * l.dst_step + writes);
    const array src_there(src, s.half), residual_there(residual, s.half), dst_there(truth, s.half);

    gw_conv_io io = {};
    io.batch = batch;
    io.columns = columns;
    io.src_step = l.src_step;
    io.dst_step = l.dst_step;
    io.residual_step = l.residual_step;
    io.src = src.data();
    io.dst = truth.data();
    io.residual = !l.residual ? nullptr : l.in_place ? truth.data() : residual.data();
    gw_conv_ops ref;
    gw_conv_ref(&ref);
    gw_conv *conv = nullptr;
    if (ref.open(&conv, &d, weight.data(), s.bias ? bias.data() : nullptr) != GW_OK)
        return -1;
    ref.run(conv, &io);
    ref.close(&conv);

    gw_cudnn_conv *p = nullptr;
    if (gw_cudnn_conv_open(&p, c, &l, weight.data(), s.bias ? bias.data() : nullptr) != GW_OK)
        return -1;
    io.src = static_cast<const float *>(src_there.p);
    io.dst = static_cast<float *>(dst_there.p);
    io.residual =
        !l.residual ? nullptr : static_cast<const float *>(l.in_place ? dst_there.p : residual_there.p);
    const int err = gw_cudnn_conv_run(p, &io, nullptr);
    gw_cudnn_conv_close(&p);
    if (err != GW_OK)
        return -1;
    const std::vector<float> got = dst_there.get();
    double most = 0, away = 0;
    for (size_t i = 0; i < truth.size(); i++) { /* what lies between windows must be as it was */
        most = std::fmax(most, std::fabs(double(truth[i])));
        const double e = std::fabs(double(got[i]) - double(truth[i]));
        away = e > away || e != e ? e : away;
    }
    return away == 0 ? 0 : away / most;
}

static void check_results(gw_cudnn *c)
{
    static const gw_act acts[] = {
        {GW_ACT_NONE, 0, 0},          {GW_ACT_RELU, 0, 0},    {GW_ACT_TANH, 0, 0}, {GW_ACT_SIGMOID, 0, 0},
        {GW_ACT_LEAKY_RELU, 0.2f, 0}, {GW_ACT_ELU, 0.7f, 0},  {GW_ACT_SILU, 0, 0}, {GW_ACT_GELU, 0, 0},
        {GW_ACT_SOFTPLUS, 0, 0},      {GW_ACT_CLIP, -0.5f, 1}};
    static const gw_conv_desc shapes[] = {{4, 8, 1, 3, 1, 1, {GW_ACT_NONE, 0, 0}},
                                          {6, 4, 2, 2, 2, 3, {GW_ACT_NONE, 0, 0}},
                                          {1, 1, 1, 1, 1, 1, {GW_ACT_NONE, 0, 0}}};
    static const char *const names[] = {"float32", "TF32", "float16, floats in memory", "float16 throughout"};
    int n = 0;
    setenv("FAKE_CUDNN", "quick", 1);
    for (int kind = 0; kind < 4; kind++) {
        double worst = 0;
        bool failed = false;
        for (const gw_conv_desc &shape : shapes)
            for (const gw_act &act : acts)
                for (int residual = 0; residual < 3; residual++)
                    for (int more = 0; more < 4; more++, n++) {
                        if (&shape != shapes && act.kind > GW_ACT_RELU)
                            continue;
                        gw_conv_desc d = shape;
                        d.act = act;
                        setting s = {};
                        s.precision = kind == 0 ? GW_CUDNN_FP32 : kind == 1 ? GW_CUDNN_TF32 : GW_CUDNN_FP16;
                        s.half = kind == 3;
                        s.residual = residual;
                        s.bias = more & 1;
                        s.overlap = more & 2;
                        const double e = compare(c, d, 1 + n % 3, 1 + n % 7, s);
                        failed = failed || e < 0;
                        worst = std::fmax(worst, e);
                    }
        const double most = kind < 2 ? 1e-5 : 1e-2;
        const std::string what = std::string(names[kind]) + " as ref within " + std::to_string(worst);
        check(!failed && worst <= most, what.c_str());
    }
}

/* ---- Choices ---- */

static int rival_runs;
static double rival_seconds;

/* The emulator's events count a thread's own time. */
static double own_time()
{
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

static int rival(void *, const gw_conv_io *, void *)
{
    const double end = own_time() + rival_seconds;
    while (own_time() < end)
        ;
    rival_runs++;
    return GW_OK;
}

static gw_cudnn_layer usual(gw_cudnn_precision precision)
{
    gw_cudnn_layer l = {};
    l.d = {4, 8, 1, 3, 1, 1, {GW_ACT_RELU, 0, 0}};
    l.batch = 2;
    l.columns = 8;
    l.src_step = 40;
    l.dst_step = 64;
    l.precision = precision;
    return l;
}

struct outcome {
    int err;
    gw_cudnn_info info;
};

static outcome open_usual(gw_cudnn *c, const gw_cudnn_layer &l)
{
    static const std::vector<float> weight(96, 0.5f), bias(8, 1.0f);
    gw_cudnn_conv *p = nullptr;
    outcome o = {};
    o.err = gw_cudnn_conv_open(&p, c, &l, weight.data(), bias.data());
    if (o.err == GW_OK)
        o.info = *gw_cudnn_conv_info(p);
    gw_cudnn_conv_close(&p);
    return o;
}

static std::string folder;

static std::vector<std::string> kept()
{
    std::vector<std::string> files;
    const std::string path = folder + "/gwstream/cudnn";
    DIR *dir = opendir(path.c_str());
    while (const dirent *e = dir ? readdir(dir) : nullptr)
        if (e->d_name[0] != '.')
            files.push_back(path + "/" + e->d_name);
    if (dir)
        closedir(dir);
    return files;
}

static void forget()
{
    for (const std::string &path : kept())
        unlink(path.c_str());
}

/* Changes the byte at `at` (from the end if negative), or with 0 leaves only the first half. */
static void damage(const std::string &path, long at)
{
    FILE *f = fopen(path.c_str(), "r+b");
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    if (at == 0) {
        if (ftruncate(fileno(f), n / 2) != 0)
            abort();
    } else {
        const long where = at > 0 ? at : n + at;
        fseek(f, where, SEEK_SET);
        const int old = fgetc(f);
        fseek(f, where, SEEK_SET);
        fputc(old ^ 1, f);
    }
    fclose(f);
}

static void check_choices(gw_cudnn *c)
{
    forget();
    const gw_cudnn_layer strict = usual(GW_CUDNN_FP32), fast = usual(GW_CUDNN_TF32);
    outcome o = open_usual(c, strict);
    check(o.err == GW_OK && o.info.engine == 2 && o.info.fused && !o.info.cached && o.info.us > 0,
          "float32: the fastest without tensor cores");
    check(o.info.left_out == 2 && n_remarks > 0, "what cannot be compiled is counted, what fails is told");
    check(kept().size() == 1, "the choice is kept");
    n_remarks = 0;
    o = open_usual(c, strict);
    check(o.err == GW_OK && o.info.engine == 2 && o.info.fused && o.info.cached && n_remarks == 0,
          "and taken from there the next time");
    o = open_usual(c, fast);
    check(o.err == GW_OK && o.info.engine == 3 && !o.info.cached, "TF32: tensor cores, but none that varies");
    check(kept().size() == 2, "under a key of its own");

    static const long places[] = {0, 3, 30, -5};
    for (long at : places) {
        forget();
        open_usual(c, strict);
        n_remarks = 0;
        damage(kept()[0], at);
        o = open_usual(c, strict);
        const bool told =
            remark.find("ignored") != std::string::npos || remark.find("left out") != std::string::npos;
        check(o.err == GW_OK && !o.info.cached && n_remarks > 0 && told,
              "a damaged file is told and ignored");
        o = open_usual(c, strict);
        check(o.err == GW_OK && o.info.cached, "and replaced");
    }

    setenv("FAKE_CUDNN", "alone", 1);
    forget();
    o = open_usual(c, fast);
    check(o.err == GW_OK && o.info.engine == 3 && !o.info.fused, "nothing fused: the convolution alone");
    setenv("FAKE_CUDNN", "nothing", 1);
    forget();
    o = open_usual(c, fast);
    check(o.err == GW_ENOTSUP, "no engine at all is said");
    printf("    %s\n", gw_err_detail());
    unsetenv("FAKE_CUDNN");

    gw_cudnn_layer raced = fast;
    raced.rival = rival;
    rival_seconds = 5e-3;
    o = open_usual(c, raced);
    check(o.err == GW_OK && o.info.engine == 3 && rival_runs > 1, "a slow rival loses");
    forget();
    rival_seconds = 0;
    o = open_usual(c, raced);
    check(o.err == GW_ENOTSUP, "a fast one wins");
    printf("    %s\n", gw_err_detail());
    rival_runs = 0;
    o = open_usual(c, raced);
    check(o.err == GW_ENOTSUP && rival_runs == 0, "and the next time without a race");

    setenv("XDG_CACHE_HOME", "/dev/null/none", 1);
    n_remarks = 0;
    o = open_usual(c, fast);
    check(o.err == GW_OK && n_remarks > 0, "a folder that cannot be is a remark");
    printf("    %s\n", remark.c_str());
    setenv("XDG_CACHE_HOME", folder.c_str(), 1);

    gw_cudnn_layer odd = fast;
    odd.d.groups = 3;
    check(open_usual(c, odd).err == GW_ERANGE, "a shape that is none");
    odd = fast;
    odd.dst_step = 3;
    check(open_usual(c, odd).err == GW_ERANGE, "steps that are none");
}

static void check_wrong_arrays(gw_cudnn *c)
{
    const gw_cudnn_layer l = usual(GW_CUDNN_FP32);
    const std::vector<float> weight(96, 0.5f);
    const array a(std::vector<float>(200, 1.0f), false), b(std::vector<float>(200, 1.0f), false);
    gw_cudnn_conv *p = nullptr;
    check(gw_cudnn_conv_open(&p, c, &l, weight.data(), nullptr) == GW_OK, "a layer without bias");
    gw_conv_io io = {};
    io.batch = l.batch;
    io.columns = l.columns;
    io.src = static_cast<const float *>(a.p);
    io.dst = static_cast<float *>(b.p);
    io.src_step = l.src_step;
    io.dst_step = l.dst_step;
    check(gw_cudnn_conv_run(p, &io, nullptr) == GW_OK, "runs");
    io.batch = 1;
    check(gw_cudnn_conv_run(p, &io, nullptr) == GW_EBUG, "not with another batch");
    io.batch = l.batch;
    io.src++;
    check(gw_cudnn_conv_run(p, &io, nullptr) == GW_EBUG, "not with arrays that are not aligned as said");
    gw_cudnn_conv_close(&p);
}

int main(int argc, char **argv)
{
    char name[] = "/tmp/gw_cudnn_XXXXXX";
    if (!mkdtemp(name))
        return 1;
    folder = name;
    setenv("XDG_CACHE_HOME", name, 1);
    gw_cudnn_remarks(take_remark);
    for (int i = 1; i < argc; i++) {
        check(gw_cudnn_library_check(argv[i]) == GW_EMISSING, "a library that will not do");
        printf("    %s\n", gw_err_detail());
    }
    gw_cudnn *c = nullptr;
    check(gw_cudnn_open(&c, true) == GW_OK, "opens");
    if (c) {
        check_choices(c);
        forget();
        check_wrong_arrays(c);
        check_results(c);
    }
    gw_cudnn_close(&c);
    forget();
    rmdir((folder + "/gwstream/cudnn").c_str());
    rmdir((folder + "/gwstream").c_str());
    rmdir(name);
    return wrong > 0;
}
