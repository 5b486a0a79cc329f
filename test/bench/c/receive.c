/*
 * receive PORT PATH TARGET
 *
 * The floor of an uncompressed image: fetches http://127.0.0.1:PORT/PATH and writes the body as it comes with O_DIRECT and one
 * fsync. A reader and a writer thread, 8 buffers of 4 MiB, nothing parsed but the header's length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFERS 8
#define BUFFER_BYTES (4 << 20)
#define BLOCK 4096

static char *buffers[BUFFERS];
static size_t lengths[BUFFERS];
static int filled, ended, target;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void *write_all(void *unused) {
  (void)unused;
  off_t at = 0;
  for (int index = 0;; index = (index + 1) % BUFFERS) {
    pthread_mutex_lock(&lock);
    while (filled == 0 && !ended) pthread_cond_wait(&changed, &lock);
    int left = filled;
    pthread_mutex_unlock(&lock);
    if (left == 0) break;
    size_t length = lengths[index];
    size_t padded = (length + BLOCK - 1) / BLOCK * BLOCK;
    memset(buffers[index] + length, 0, padded - length);
    if (pwrite(target, buffers[index], padded, at) != (ssize_t)padded) fail("pwrite");
    at += length;
    pthread_mutex_lock(&lock);
    filled--;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
  }
  if (ftruncate(target, at) != 0 || fsync(target) != 0) fail("fsync");
  return NULL;
}

static int request(int port, const char *path) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int server = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(server, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  char text[512];
  int length = snprintf(text, sizeof text, "GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
  if (write(server, text, length) != length) fail("request");
  return server;
}

/* Reads the header byte by byte, so that none of the body is taken; returns the length of the body. */
static long long read_header(int server) {
  static char header[8192];
  size_t length = 0;
  while (length < sizeof header - 1 && (length < 4 || memcmp(header + length - 4, "\r\n\r\n", 4) != 0))
    if (read(server, header + length++, 1) != 1) fail("header");
  if (strncmp(header, "HTTP/1.1 200", 12) != 0) fail("status");
  char *field = strcasestr(header, "\r\nContent-Length:");
  if (field == NULL) fail("length");
  return atoll(field + strlen("\r\nContent-Length:"));
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  for (int index = 0; index < BUFFERS; index++)
    if (posix_memalign((void **)&buffers[index], BLOCK, BUFFER_BYTES) != 0) fail("memory");
  target = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT, 0600);
  if (target < 0) fail(argv[3]);
  int server = request(atoi(argv[1]), argv[2]);
  long long rest = read_header(server);
  pthread_t writer;
  pthread_create(&writer, NULL, write_all, NULL);
  for (int index = 0; rest > 0; index = (index + 1) % BUFFERS) {
    pthread_mutex_lock(&lock);
    while (filled == BUFFERS) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    size_t wanted = rest < BUFFER_BYTES ? (size_t)rest : BUFFER_BYTES;
    if (recv(server, buffers[index], wanted, MSG_WAITALL) != (ssize_t)wanted) fail("body");
    lengths[index] = wanted;
    rest -= wanted;
    pthread_mutex_lock(&lock);
    filled++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_lock(&lock);
  ended = 1;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
  pthread_join(writer, NULL);
  return 0;
}
