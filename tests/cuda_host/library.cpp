// The kernels as a shared library: CUDA_HOST_SOURCE is a source of kernels, CUDA_HOST_INSTANCES lists
// INSTANCE(name, kernel) for every instance that it has.
#include "cuda_host.hpp"

#include CUDA_HOST_SOURCE

#define EXPORTED extern "C" __attribute__((visibility("default")))

#if defined(CUDA_HOST_METERED)
#include "meter.hpp"
#endif

static const std::vector<cuda_host::Entry>& entries() {
#define INSTANCE(name, ...) cuda_host::entry<__VA_ARGS__>(name, __VA_ARGS__),
    static const std::vector<cuda_host::Entry> all{
#include CUDA_HOST_INSTANCES
    };
    return all;
}

EXPORTED int cuda_host_count() { return int(entries().size()); }

EXPORTED const char* cuda_host_name(int index) { return entries()[index].name.c_str(); }

EXPORTED const char* cuda_host_types(int index) { return entries()[index].types.c_str(); }

// Null, or what went wrong.
EXPORTED const char* cuda_host_launch(
    int index, void** arguments, unsigned blocks, unsigned threads, unsigned long long seed, unsigned interrupt
) {
    return cuda_host::launch(entries()[index].call, arguments, blocks, threads, seed, interrupt);
}
