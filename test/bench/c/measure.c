/*
 * measure RESULT PROGRAM ARGUMENT...
 *
 * Runs a program and writes to RESULT, as JSON, the wall time until it ended and the CPU time and largest process of its
 * whole tree. Being a subreaper it also counts what the program left running (nbdkit outlives its own --run), and waits for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long what the program left running may take to end. */
#define PATIENCE_MS 10000

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static double seconds(struct timeval time) { return time.tv_sec + time.tv_usec / 1e6; }

/* Waits for every process left; 0 when none is. */
static int reap(void) {
  for (int waited = 0; waited < PATIENCE_MS; waited++) {
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
      ;
    if (pid < 0 && errno == ECHILD) return 0;
    usleep(1000);
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  double start = now();
  pid_t child = fork();
  if (child < 0) return 2;
  if (child == 0) {
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  int status = 0;
  pid_t ended;
  while ((ended = waitpid(-1, &status, 0)) != child)
    if (ended < 0 && errno != EINTR) return 2;
  double wall = now() - start;
  int left = reap();
  struct rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  FILE *result = fopen(argv[1], "w");
  if (result == NULL) return 2;
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  fprintf(result, "{\"wallSeconds\":%.6f,\"userSeconds\":%.6f,\"systemSeconds\":%.6f,\"maxRssBytes\":%ld,\"left\":%d}\n",
          wall, seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss * 1024L, left);
  fclose(result);
  return code;
}
