/* Gives a server the time that a file holds, so that a recorded schedule can be played to a real one: its clock is then
   the simulation's. Loaded with LD_PRELOAD; the monotonic clock is left alone. The file: nanoseconds, an int64.

   Valkey adds what the processor counted since it last asked for the time; told nothing of the processor, it asks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *clock_ns;

static int64_t now_ns(void) {
  if (!clock_ns) {
    int file = open(getenv("SIMULATED_CLOCK"), O_RDONLY);
    clock_ns = mmap(0, sizeof *clock_ns, PROT_READ, MAP_SHARED, file, 0);
  }
  return *clock_ns;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  at->tv_sec = now_ns() / 1000000000;
  at->tv_usec = now_ns() / 1000 % 1000000;
  return 0;
}

int clock_gettime(clockid_t which, struct timespec *at) {
  if (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, which, at);
  at->tv_sec = now_ns() / 1000000000;
  at->tv_nsec = now_ns() % 1000000000;
  return 0;
}

time_t time(time_t *at) {
  time_t now = now_ns() / 1000000000;
  if (at) *at = now;
  return now;
}

static FILE *open_but_processor(const char *symbol, const char *path, const char *mode) {
  if (!strcmp(path, "/proc/cpuinfo")) return NULL;
  FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, symbol);
  return real(path, mode);
}

FILE *fopen(const char *restrict path, const char *restrict mode) { return open_but_processor("fopen", path, mode); }

FILE *fopen64(const char *restrict path, const char *restrict mode) {
  return open_but_processor("fopen64", path, mode);
}
