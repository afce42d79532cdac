/* Gives a server the time that a file holds, so that a recorded schedule can be played to a real one: its clock is then
   the simulation's. Loaded with LD_PRELOAD; the monotonic clock is left alone. The file: nanoseconds, an int64. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
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
