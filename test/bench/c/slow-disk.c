/*
 * A disk that writes SLOW_DISK_BYTES a second, for a program loaded with this in LD_PRELOAD: each positioned write of the
 * process returns no sooner than such a disk would have answered it. Works for any user and leaves nothing behind.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* When the disk has written all that it was given. */
static double ready;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static ssize_t after(ssize_t written) {
  static double rate;
  if (written <= 0) return written;
  pthread_mutex_lock(&lock);
  if (rate == 0) rate = atof(getenv("SLOW_DISK_BYTES"));
  double start = now();
  ready = (ready > start ? ready : start) + written / rate;
  double wait = ready - start;
  pthread_mutex_unlock(&lock);
  struct timespec time = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
  nanosleep(&time, NULL);
  return written;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))
typedef ssize_t (*write_at)(int, const void *, size_t, off_t);
typedef ssize_t (*write_parts)(int, const struct iovec *, int, off_t);

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
  return after(REAL("pwrite", write_at)(file, bytes, length, at));
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
  return after(REAL("pwrite64", write_at)(file, bytes, length, at));
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
  return after(REAL("pwritev", write_parts)(file, parts, count, at));
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at) {
  return after(REAL("pwritev64", write_parts)(file, parts, count, at));
}
