/* SPDX-License-Identifier: GPL-3.0-or-later
 * A model of cuFFT for the emulator: batched real transforms of any even length, mixed radix in double,
 * written to be read. */
#include "kernels/cuda/cufft.cuh"

#include <complex>
#include <map>
#include <mutex>
#include <vector>

namespace
{

typedef std::complex<double> complex;

struct plan {
    unsigned n, batch;
};
std::mutex lock;
std::map<int, plan> plans;
int last_plan;

/* out[0 .. n - 1] = transform of in[0], in[stride], ...; root[i] = exp(+-2 pi i / whole), whole = n * stride.
 */
void dft(const complex *in, complex *out, unsigned n, size_t stride, const complex *root)
{
    unsigned r = 2;
    while (n > 1 && n % r)
        r++;
    if (n == 1) {
        out[0] = in[0];
        return;
    }
    const unsigned m = n / r;
    for (unsigned j = 0; j < r; j++)
        dft(in + j * stride, out + j * m, m, stride * r, root);
    std::vector<complex> z(r);
    for (unsigned k = 0; k < m; k++) {
        for (unsigned j = 0; j < r; j++)
            z[j] = out[j * m + k] * root[size_t(j) * k * stride];
        for (unsigned q = 0; q < r; q++) {
            complex sum = 0;
            for (unsigned j = 0; j < r; j++)
                sum += z[j] * root[j * q % r * m * stride];
            out[q * m + k] = sum;
        }
    }
}

std::vector<complex> roots(unsigned n, double sign)
{
    std::vector<complex> w(n);
    for (unsigned i = 0; i < n; i++)
        w[i] = std::polar(1.0, sign * 2 * M_PI * i / n);
    return w;
}

int plan_many(int *out, int rank, int *n, int *, int, int, int *, int, int, int, int batch)
{
    if (rank != 1 || *n < 2 || *n % 2 || batch < 1)
        return 1;
    std::lock_guard<std::mutex> hold(lock);
    plans[ *out = ++last_plan] = {unsigned(*n), unsigned(batch)};
    return 0;
}

plan plan_of(int number)
{
    std::lock_guard<std::mutex> hold(lock);
    return plans.at(number);
}

int set_stream(int, cudaStream_t)
{
    return 0;
}

/* Device memory may be touched inside launches only: a launch of one thread. */
template <class F> void on_device(F f)
{
    gw_emu_launch(
        reinterpret_cast<const void *>(&plan_of), "cuFFT", 1, 1, 0, [](void *p) { (*static_cast<F *>(p))(); },
        &f);
}

int forward(int number, float *in, float2 *out)
{
    const plan p = plan_of(number);
    on_device([=] {
        std::vector<complex> a(p.n), b(p.n), w = roots(p.n, -1);
        for (unsigned i = 0; i < p.batch; i++) {
            for (unsigned j = 0; j < p.n; j++)
                a[j] = double(in[size_t(i) * p.n + j]);
            dft(a.data(), b.data(), p.n, 1, w.data());
            for (unsigned k = 0; k <= p.n / 2; k++)
                out[i * size_t(p.n / 2 + 1) + k] = make_float2(float(b[k].real()), float(b[k].imag()));
        }
    });
    return 0;
}

int inverse(int number, float2 *in, float *out)
{
    const plan p = plan_of(number);
    on_device([=] {
        std::vector<complex> a(p.n), b(p.n), w = roots(p.n, 1);
        for (unsigned i = 0; i < p.batch; i++) {
            for (unsigned k = 0; k <= p.n / 2; k++) {
                const float2 z = in[i * size_t(p.n / 2 + 1) + k];
                a[k] = complex(double(z.x), double(z.y));
                if (k > 0)
                    a[p.n - k] = std::conj(a[k]);
            }
            dft(a.data(), b.data(), p.n, 1, w.data());
            for (unsigned j = 0; j < p.n; j++)
                out[size_t(i) * p.n + j] = float(b[j].real());
        }
    });
    return 0;
}

int destroy(int number)
{
    std::lock_guard<std::mutex> hold(lock);
    return plans.erase(number) == 1 ? 0 : 1;
}

} // namespace

const gw_cufft_calls *gw_cufft()
{
    static const gw_cufft_calls calls = {plan_many, set_stream, forward, inverse, destroy};
    return &calls;
}
